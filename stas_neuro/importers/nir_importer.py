"""The importer of NIR files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stas_neuro.errors import InputError
from stas_neuro.importers.base import Imported, ImportOptions, is_nir, refuse_unused
from stas_neuro.importers.nir_graph import NirOptions, read_nir

_USED = ("axes", "classes", "dt", "fire", "mean", "std", "time_steps")
_STATIC = {None: None, "BTCHW": False, "BCHW": True}
"""Whether inputs are one image each, by their axes."""


class NirFile:
    """Imports files of the neuromorphic intermediate representation."""

    summary = "a NIR file (.nir)"

    def accepts(self, source: object) -> bool:
        """Accept a path that ends in .nir."""
        return is_nir(source)

    def read(self, source: Any, options: ImportOptions) -> Imported:
        """Convert a file to a folded graph; raises InputError as `read_nir`, and for options without use."""
        refuse_unused(options, _USED, "a NIR file")
        if options.axes not in _STATIC:
            raise InputError(f"axes are {options.axes!r}", "use BTCHW, a frame a step, or BCHW, one image")
        fire = options.fire or ">"
        if fire not in (">", ">="):
            raise InputError(f"fire is {fire!r}", "use > or >=")
        return Imported(
            *read_nir(
                Path(source),
                NirOptions(
                    dt=options.dt,
                    time_steps=options.time_steps,
                    static=_STATIC[options.axes],
                    fire=">=" if fire == ">=" else ">",
                    classes=options.classes,
                    mean=options.mean,
                    std=options.std,
                ),
            )
        )
