"""From rows to a plan: parts, shards, names, limits of providers."""
