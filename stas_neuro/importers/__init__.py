"""Importers: networks in other formats, converted to graphs.

`IMPORTERS` has importers by name: NIR files, netx files of lava-dl, torch modules, and those of other
packages, which register them by entry points in ``pyproject.toml``::

    [project.entry-points."stas_neuro.importers"]
    mine = "my_package:MyImporter"

``MyImporter()`` must be an `Importer`; `stas_neuro.open_model` uses the first that accepts the source.

Released weights without code are read by the names of their tensors: `stas_neuro.importers.weights`.
"""

from __future__ import annotations

from stas_neuro.importers.base import (
    Imported,
    Importer,
    ImportOptions,
    file_of,
    is_factory,
    is_imported,
    is_netx,
    is_nir,
    is_onnx,
)
from stas_neuro.importers.naming import find_model
from stas_neuro.plugins import Registry

GROUP = "stas_neuro.importers"
IMPORTERS: Registry[Importer] = Registry(
    "importer",
    GROUP,
    {
        "nir": "stas_neuro.importers.nir_importer:NirFile",
        "netx": "stas_neuro.importers.netx_importer:NetxFile",
        "onnx": "stas_neuro.importers.onnx_importer:OnnxFile",
        "torch": "stas_neuro.importers.torch_module:TorchModule",
    },
)

__all__ = [
    "GROUP",
    "IMPORTERS",
    "ImportOptions",
    "Imported",
    "Importer",
    "file_of",
    "find_model",
    "is_factory",
    "is_imported",
    "is_netx",
    "is_nir",
    "is_onnx",
]
