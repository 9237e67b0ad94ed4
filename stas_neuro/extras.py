"""Optional parts of an installation."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from stas_neuro.errors import InputError


@contextmanager
def needs(part: str) -> Iterator[None]:
    """Say how to install an optional part (``torch``, ``lava``) where an import finds it missing."""
    try:
        with warnings.catch_warnings():
            # Norse 1.1 compiles with torch.jit.script on import, which is nothing that a caller can change.
            warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
            yield
    except ImportError as error:
        raise InputError(f"{part} cannot be used here: {error}", _installation(part)) from error


def _installation(part: str) -> str:
    """How to install an optional part in this version of Python: Lava declares none above 3.10."""
    if part == "lava" and sys.version_info >= (3, 11):
        command = (
            "pip install asteval networkx scipy && "
            "pip install --no-deps --ignore-requires-python lava-nc==0.10.0"
        )
    else:
        command = f"pip install 'stas-neuro[{part}]'"
    return f"{command} (in a checkout: uv sync --all-extras)"
