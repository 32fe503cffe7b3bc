"""Stores that cost next to nothing, as yardsticks."""
