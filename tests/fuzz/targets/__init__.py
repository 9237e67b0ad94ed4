"""The readers: a module each, with its `TARGET`."""
