"""The data plane of Noria: it moves bytes from source to target, without Ray and Prometheus."""
