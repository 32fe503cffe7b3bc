"""The study of a resume on a slow file system."""
