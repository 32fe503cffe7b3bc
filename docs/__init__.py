"""The documentation site: its pages, and what makes the rest of it from the code."""
