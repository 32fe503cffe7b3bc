"""Proofs of what was moved: for those who do not trust the mover."""
