"""The work on one lease: objects, parts, assembly, reading back."""
