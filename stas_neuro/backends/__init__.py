"""Registry of backends, which run networks. Other packages add one by an entry point of `GROUP`.

In its ``pyproject.toml``::

    [project.entry-points."stas_neuro.backends"]
    mine = "my_package:MyBackend"

``MyBackend()`` must be a `Backend`; it is then available as ``--backend mine`` and
``run(..., backend="mine")``.
"""

from __future__ import annotations

from stas_neuro.backends.base import RUNTIMES, Backend, RunOptions
from stas_neuro.plugins import Registry

GROUP = "stas_neuro.backends"
BACKENDS: Registry[Backend] = Registry(
    "backend",
    GROUP,
    {
        "reference": "stas_neuro.backends.builtin:Reference",
        "lava": "stas_neuro.backends.builtin:Lava",
        "lava-stock": "stas_neuro.backends.builtin:LavaStock",
    },
)

__all__ = ["BACKENDS", "GROUP", "RUNTIMES", "Backend", "RunOptions"]
