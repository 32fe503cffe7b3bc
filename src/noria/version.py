"""The version of Noria. Nothing is imported here, so that everything may import it."""

VERSION = "0.1.0"
