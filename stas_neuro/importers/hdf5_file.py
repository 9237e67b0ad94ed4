"""HDF5 files of other libraries as arrays by path.

HDF5 is read by `hdf5_child`, in a process with a deadline: a damaged file can crash or occupy its library.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stas_neuro.documents import BadDocument, open_file, shown
from stas_neuro.errors import InputError
from stas_neuro.extras import needs
from stas_neuro.importers.hdf5_child import FILE_LIMIT, REFUSED, read_arrays
from stas_neuro.ir import Array

DEADLINE = 120.0
"""Seconds that reading a file may take."""
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Format:
    """A kind of HDF5 files.

    Parameters
    ----------
    extra : str
        The optional part of an installation that reads it.
    remedy : str
        Where a good file comes from.
    """

    extra: str
    remedy: str


def read_hdf5(path: Path, kind: Format) -> Mapping[str, Array]:
    """Read all datasets of a file by path ("layer/0/weight") in a child process.

    Numbers keep their dtype; texts become arrays of dtype U.

    Raises
    ------
    InputError
        When it is missing, is no HDF5 file, exceeds a limit of `hdf5_child`, or takes longer than `DEADLINE`;
        or h5py is missing.
    """
    with needs(kind.extra):
        import h5py  # noqa: F401  # said here, not by the process
    try:
        open_file(path, FILE_LIMIT).close()  # says what is wrong without starting a process
    except BadDocument as error:
        raise InputError(f"{path}: {error}", kind.remedy) from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}", "use a readable file") from error
    command = [sys.executable, "-m", "stas_neuro.importers.hdf5_child", str(path.resolve())]
    try:
        # Its working directory comes first where it looks for modules: this package's, not the user's.
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, check=False, timeout=DEADLINE)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{path}: reading it takes more than {DEADLINE:g} s", kind.remedy) from error
    if done.returncode == REFUSED and done.stdout:
        raise InputError(f"{path}: {done.stdout.decode(errors='replace')}", kind.remedy)
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        how = f"exit code {done.returncode}" if done.returncode > 0 else f"signal {-done.returncode}"
        raise InputError(f"{path}: its reader ended with {how} ({shown(last, 200)})", kind.remedy)
    with np.load(io.BytesIO(done.stdout), allow_pickle=False) as members:
        return {str(name): members[f"arr_{1 + index}"] for index, name in enumerate(members["arr_0"])}


def read_hdf5_here(path: Path, kind: Format) -> Mapping[str, Array]:
    """As `read_hdf5`, in this process: for tests with many files."""
    try:
        return read_arrays(path)
    except BadDocument as error:
        raise InputError(f"{path}: {error}", kind.remedy) from error
