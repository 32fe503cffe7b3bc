"""The contract that stores keep, and what they share."""
