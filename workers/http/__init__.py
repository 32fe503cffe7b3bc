"""HTTP/1.1 for object bodies and small requests."""
