"""The data plane of Noria: bytes from source to target. Knows nothing of Ray or Prometheus."""
