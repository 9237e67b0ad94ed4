"""Intel Lava: the program as Lava processes. Everything that imports ``lava`` is in this package.

Of its modules only ``lava_api`` and ``stock.processes`` do, after ``compat`` has mended what they import: to
write a package, to supervise a run, or to lower to stock processes takes no Lava.
"""
