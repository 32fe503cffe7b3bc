"""The control plane of Noria: decisions, the cluster, the command line."""
