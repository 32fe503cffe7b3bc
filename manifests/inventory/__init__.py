"""Lists of what a source holds, in any of their formats."""
