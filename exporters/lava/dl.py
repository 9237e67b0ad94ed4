"""Makes `lava.lib.dl.netx` of lava-dl 0.6.0 importable without what only its object detection needs.

    from stas_neuro.exporters.lava.dl import load_hdf5

    network = load_hdf5().Network("network.net")

The package imports its training part, and that its object detection, which needs torchvision and OpenCV.
Where these are missing an empty module stands in for it; nothing of lava-dl is copied or rewritten.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

from stas_neuro.extras import needs

_DETECTION = "lava.lib.dl.slayer.object_detection"
_NEEDED = ("torchvision", "cv2")


def load_hdf5() -> ModuleType:
    """Import `lava.lib.dl.netx.hdf5`, whose `Network` reads netx files.

    Raises
    ------
    InputError
        When lava-dl, or something that it needs, is not installed.
    """
    with needs("lava-dl"):
        from stas_neuro.exporters.lava import compat  # noqa: F401  # before anything of Lava

        if any(importlib.util.find_spec(name) is None for name in _NEEDED):
            sys.modules.setdefault(_DETECTION, ModuleType(_DETECTION))
        return importlib.import_module("lava.lib.dl.netx.hdf5")
