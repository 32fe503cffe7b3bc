"""Noria from Python: what `import noria` offers is defined here, or named in `noria.__all__`."""

import logging

# A program that sets up no logging would get warnings on standard error: nothing is printed here.
logging.getLogger("noria").addHandler(logging.NullHandler())
