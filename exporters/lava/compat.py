"""Make the archived Lava 0.10.0 importable as it is: to be imported before anything of ``lava``.

Two of Lava's modules fail when they are imported in a current Python or in a process that is already set
up. Both are imported here first, each with one standard library name replaced while its import runs:
nothing of Lava is copied or rewritten, and where Lava imports by itself nothing is replaced. This file
needs the standard library and numpy only, so that it can travel with exported process files.

Raises
------
ImportError
    On import of this module: numpy is too new for Lava, or Lava is not installed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import multiprocessing
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

NUMPY_LIMIT = (2, 4)
_VAR_MODEL = "lava.magma.compiler.var_model"
_MULTIPROCESSING = "lava.magma.runtime.message_infrastructure.multiprocessing"


def check_numpy(version: str) -> None:
    """Refuse a numpy with which Lava hangs when it stops.

    Parameters
    ----------
    version : str
        As in ``numpy.__version__``.

    Raises
    ------
    ImportError
        At 2.4 and above, which dropped ``np.reshape(newshape=)`` and ``int(array)``: Lava's processes die
        of either and its ``stop()`` then waits for them for ever.
    """
    major, minor = (int(part) for part in version.split(".")[:2])
    if (major, minor) >= NUMPY_LIMIT:
        raise ImportError(f"numpy {version} makes Lava 0.10.0 hang, the limit is < 2.4; install 'numpy<2.4'")


def mend() -> None:
    """Import the two modules of Lava that fail by themselves; a second call does nothing.

    Raises
    ------
    ImportError
        Lava is not installed.
    """
    try:
        _import_with(_VAR_MODEL, ValueError, dataclasses, "dataclass", _dataclass)
        _import_with(_MULTIPROCESSING, RuntimeError, multiprocessing, "set_start_method", _keep_start_method)
    except ModuleNotFoundError as error:
        raise ImportError(f"lava-nc 0.10.0 cannot be imported: {error}") from error


def _import_with(
    name: str, failure: type[Exception], owner: ModuleType, attribute: str, stand_in: Any
) -> None:
    """Import `name`; where that ends in `failure`, again with ``owner.attribute`` replaced meanwhile."""
    try:
        importlib.import_module(name)
    except failure:
        # The first try imported what `name` needs, so that only its own body sees the stand-in.
        with _replaced(owner, attribute, stand_in):
            importlib.import_module(name)


@contextlib.contextmanager
def _replaced(owner: ModuleType, attribute: str, stand_in: Any) -> Iterator[None]:
    original = getattr(owner, attribute)
    setattr(owner, attribute, stand_in)
    try:
        yield
    finally:
        setattr(owner, attribute, original)


_standard_dataclass = dataclasses.dataclass


def _dataclass(cls: Any = None, /, **options: Any) -> Any:
    """``dataclasses.dataclass``, but ByteEncoder is hashable.

    Since Python 3.11 a dataclass refuses an unhashable default, and eight fields default to one.
    """
    if cls is not None and (cls.__module__, cls.__qualname__) == (_VAR_MODEL, "ByteEncoder"):
        options["unsafe_hash"] = True
    return _standard_dataclass(cls, **options)


def _keep_start_method(method: str) -> None:
    """Leave the start method of this process as its owner set it.

    Lava sets ``fork`` on import, which raises where a method is set already. Only Lava's multi-process
    runtime starts processes: give it a process of its own, where nobody has set another method.
    """


check_numpy(np.__version__)
mend()
