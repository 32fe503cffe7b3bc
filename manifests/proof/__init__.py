"""Proof of receipts that others can check: a Merkle tree of a pass, and a signed checkpoint of it.

docs/pages/reference/proof-format.md says every byte. Nothing in here does I/O but tiles.py.
"""
