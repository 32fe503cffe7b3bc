"""Proofs of a migration: who signs them, where they are copied, and how they are checked."""
