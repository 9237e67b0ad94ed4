"""Optional dependencies of an installation."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from stas_neuro.errors import InputError


@contextmanager
def needs(part: str) -> Iterator[None]:
    """Turn an ImportError in the block into an InputError with the command to install an optional part.

    ``part`` is the name of the part, such as ``torch`` or ``lava``.
    """
    try:
        with warnings.catch_warnings():
            # Norse 1.1 uses torch.jit.script on import, which callers cannot change.
            warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
            yield
    except ImportError as error:
        raise InputError(f"{part} cannot be used here: {error}", _installation(part)) from error


def _installation(part: str) -> str:
    """Return the command that installs an optional part; Lava declares no Python version above 3.10."""
    if part == "lava" and sys.version_info >= (3, 11):
        command = (
            "pip install asteval networkx scipy && "
            "pip install --no-deps --ignore-requires-python lava-nc==0.10.0"
        )
    else:
        command = f"pip install 'stas-neuro[{part}]'"
    return f"{command} (in a checkout: uv sync --all-extras)"
