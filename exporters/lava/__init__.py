"""Intel Lava: the program as Lava processes. Everything that imports ``lava`` is in this package.

Raises
------
ImportError
    On import: Lava is not installed, or the installed numpy is too new for it.
"""

from . import compat as compat  # before every module of this package, and so before any import of lava
