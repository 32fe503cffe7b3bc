"""`make bench`: Noria beside its peers on the same work."""
