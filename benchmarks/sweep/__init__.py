"""`noria bench`: settings tried on real transfers."""
