"""The importer of netx files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stas_neuro.importers.base import Imported, ImportOptions, is_netx, refuse_unused
from stas_neuro.importers.netx_graph import NetxOptions, import_netx

_USED = ("classes", "input_shape", "time_steps")


class NetxFile:
    """Imports networks that lava-dl exported, as the integer programs that they are."""

    summary = "a netx file of lava-dl (.net)"

    def accepts(self, source: object) -> bool:
        """Accept a path that ends in .net."""
        return is_netx(source)

    def read(self, source: Any, options: ImportOptions) -> Imported:
        """Convert a file to an integer program; InputError as `import_netx`, and for unused options."""
        refuse_unused(options, _USED, "a netx file")
        shape = options.input_shape
        made = import_netx(
            Path(source),
            NetxOptions(
                time_steps=options.time_steps,
                input_shape=None if shape is None else tuple(shape),
                classes=options.classes,
            ),
        )
        return Imported(made.real, made.notes, quantised=made.quantised)
