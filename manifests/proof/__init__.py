"""Proof of receipts that others can check: a Merkle tree of a pass, and a signed checkpoint of it.

docs/pages/reference/proof-format.md says every byte. leaf.py, tree.py, note.py, checkpoint.py and
proof_files.py are pure; the others read and write the job directory.
"""
