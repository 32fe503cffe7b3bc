"""Many datasets in one migration."""
