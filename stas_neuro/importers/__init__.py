"""What makes a graph of a model in another form, by name. Another package adds an importer by an entry point.

In its ``pyproject.toml``::

    [project.entry-points."stas_neuro.importers"]
    mine = "my_package:MyImporter"

``MyImporter()`` must be an `Importer`; `stas_neuro.open_model` asks each in turn whether it accepts one.
"""

from __future__ import annotations

from stas_neuro.importers.base import Imported, Importer, ImportOptions, is_factory
from stas_neuro.plugins import Registry

GROUP = "stas_neuro.importers"
IMPORTERS: Registry[Importer] = Registry(
    "importer", GROUP, {"torch": "stas_neuro.importers.torch_module:TorchModule"}
)

__all__ = ["GROUP", "IMPORTERS", "ImportOptions", "Imported", "Importer", "is_factory"]
