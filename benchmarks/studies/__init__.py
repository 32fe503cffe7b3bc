"""Single questions, each a script of its own."""
