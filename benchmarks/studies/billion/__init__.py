"""A job of very many objects, from inventory to proof: see __main__.py."""
