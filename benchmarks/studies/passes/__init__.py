"""A later pass over very many objects, of which few have changed: see __main__.py."""
