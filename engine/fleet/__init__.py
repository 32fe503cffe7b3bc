"""Many datasets in one migration: each a migration of its own, all with one set of workers."""
