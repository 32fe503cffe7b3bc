"""Where things are served unless somebody says otherwise. Imports nothing: the help text names
them."""

METRICS_ADDRESS = "127.0.0.1:9464"
