"""Registry of backends, which run networks. Other packages add one by an entry point of `GROUP`.

In its ``pyproject.toml``::

    [project.entry-points."stas_neuro.backends"]
    mine = "my_package:MyBackend"

``MyBackend()`` must be a `Backend`; it is then available as ``--backend mine`` and
``run(..., backend="mine")``.
"""

from __future__ import annotations

from importlib.util import find_spec

from stas_neuro.backends.base import RUNTIMES, Backend, RunOptions
from stas_neuro.ir import Graph, Stage
from stas_neuro.plugins import Registry

GROUP = "stas_neuro.backends"
BACKENDS: Registry[Backend] = Registry(
    "backend",
    GROUP,
    {
        "reference": "stas_neuro.backends.builtin:Reference",
        "fast": "stas_neuro.backends.builtin:Fast",
        "lava": "stas_neuro.backends.builtin:Lava",
        "lava-stock": "stas_neuro.backends.builtin:LavaStock",
    },
)

AUTO = "auto"
"""Stands for the fastest backend that can run a network, and gives the results of the reference."""


def choose_backend(name: str, network: Graph) -> str:
    """Return the name of the backend that runs a network: for `AUTO` fast or reference, else `name`.

    `fast` runs integer programs, and has optional dependencies.
    """
    if name != AUTO:
        return name
    return "fast" if _fast_runs(network) else "reference"


def choose_granularity(granularity: str, network: Graph) -> str:
    """Return the granularity of the backend lava for a network: "auto" is chip where `fast` runs it."""
    if granularity != "auto":
        return granularity
    return "chip" if _fast_runs(network) else "layer"


def _fast_runs(network: Graph) -> bool:
    installed = all(find_spec(module) is not None for module in ("numba", "threadpoolctl"))
    return installed and network.stage == Stage.QUANTISED


__all__ = [
    "AUTO",
    "BACKENDS",
    "GROUP",
    "RUNTIMES",
    "Backend",
    "RunOptions",
    "choose_backend",
    "choose_granularity",
]
