"""One lease at work: objects, parts, assembly, re-reading."""
