"""Intel Lava: the program as Lava processes. Everything that imports ``lava`` is in this package."""
