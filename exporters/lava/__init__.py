"""Intel Lava: the program as Lava processes. Everything that imports ``lava`` is in this package.

Of its modules only ``lava_api`` does, after ``compat`` has mended what it imports: to write a package, or to
supervise a run, takes no Lava.
"""
