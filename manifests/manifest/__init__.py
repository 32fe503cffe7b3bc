"""The frozen manifest: writing, sorting, digesting, reading it."""
