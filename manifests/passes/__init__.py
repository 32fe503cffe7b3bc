"""Passes: what stands at the target after some of them, and what a source has since."""
