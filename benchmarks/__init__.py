"""Noria measured from outside, and its scheduler simulated."""
