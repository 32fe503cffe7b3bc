"""What a running job shows over HTTP: a live page, its status as a document, its health."""
