"""`noria simulate`: the scheduler among simulated workers, stores and faults."""
