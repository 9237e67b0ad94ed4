"""Optional dependencies of an installation."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import requires

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
        with without_norse_warning(), _without_collection():
            yield
    except ImportError as error:
        raise InputError(f"{part} cannot be used here: {error}", _installation(part)) from error


@contextmanager
def without_norse_warning() -> Iterator[None]:
    """Hide what norse 1.1 warns of on import, and callers cannot change: it uses torch.jit.script."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated")
        yield


@contextmanager
def _without_collection() -> Iterator[None]:
    """Search for no unused objects: what an import makes stays, and each search goes through all of it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _installation(part: str) -> str:
    """Return the command that installs an optional part.

    It names the libraries, as this package may come from a file that no index has. Lava declares no Python
    version above 3.10.
    """
    if part in _LAVA and sys.version_info >= (3, 11):
        needed, pinned = _LAVA[part]
        command = f"pip install {needed} && pip install --no-deps --ignore-requires-python {pinned}"
    else:
        command = " ".join(["pip install", *(f"'{name}'" for name in _libraries(part))])
    return f"{command} (in a checkout: uv sync --all-extras)"


def _libraries(part: str) -> list[str]:
    """Return what this package requires for a part, such as torch>=2.6."""
    required = [text.partition(";") for text in requires("stas-neuro") or ()]
    return [name.strip() for name, _, when in required if f"extra == '{part}'" in when.replace('"', "'")]
