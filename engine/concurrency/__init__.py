"""How much may be in flight: pure searches over what workers report."""
