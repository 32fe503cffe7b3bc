"""Noria and its peers over a distance: a grid of round trips, rates, lines and kinds of work."""
