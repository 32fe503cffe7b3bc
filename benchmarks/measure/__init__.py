"""What processes cost: CPU, memory, spread."""
