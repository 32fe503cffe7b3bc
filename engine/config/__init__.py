"""What a user may say: locations, job files, settings."""
