"""Optional dependencies of an installation."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from stas_neuro.errors import InputError

_LAVA = {
    "lava": ("asteval networkx scipy", "lava-nc==0.10.0"),
    "lava-dl": ("asteval h5py matplotlib networkx scipy torch", "lava-nc==0.10.0 lava-dl==0.6.0"),
}
"""What pip has to install first, and what it has to install without looking at the versions it declares."""


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
    if part in _LAVA and sys.version_info >= (3, 11):
        needed, pinned = _LAVA[part]
        command = f"pip install {needed} && pip install --no-deps --ignore-requires-python {pinned}"
    else:
        command = f"pip install 'stas-neuro[{part}]'"
    return f"{command} (in a checkout: uv sync --all-extras)"
