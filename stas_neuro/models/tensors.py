"""Tensors of a safetensors file; shapes and dtypes in its header are checked before tensors are loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from stas_neuro.documents import BadDocument, open_file, reason
from stas_neuro.errors import InputError
from stas_neuro.limits import FLOAT_LIMIT

_DTYPES = {True: ("F64", "F32", "F16", "BF16"), False: ("I64", "I32")}
"""Dtypes in a file that are accepted for float tensors (True) and for integer tensors (False)."""
_SHOWN = 5
HEADER_LIMIT = 1 << 24
"""Largest size of a header in bytes; a tensor needs about 100."""


@dataclass(frozen=True)
class Form:
    """Dtype (safetensors' name) and shape of a tensor in the header of a file."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class TensorFile:
    """A file whose header has been read: the `forms` of its tensors by name, and its `metadata`."""

    path: Path
    forms: Mapping[str, Form]
    metadata: Mapping[str, str]
    _file: Any

    def tensors(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Load tensors as they are in the file."""
        return {name: self._file.get_tensor(name) for name in names}

    def load(self, names: Mapping[str, str], wanted: Mapping[str, Tensor], remedy: str) -> dict[str, Tensor]:
        """Load the tensors `wanted` in their dtypes; these may be on the meta device.

        `names` maps the wanted names to those in the file. Raises InputError with the first problems: tensors
        that are missing, unknown, of another shape or kind, or with values that are not finite or too large.
        """
        problems = [f"{name} is missing" for name in wanted.keys() - names.keys()]
        problems += [f"{name} is unknown" for name in names.keys() - wanted.keys()]
        tensors = {}
        for name in wanted.keys() & names.keys():
            form, shape, dtype = self.forms[names[name]], tuple(wanted[name].shape), wanted[name].dtype
            if form.shape != shape:
                problems.append(f"{name} has shape {form.shape}, not {shape}")
            elif form.dtype not in _DTYPES[dtype.is_floating_point]:
                problems.append(f"{name} is {form.dtype}, not {dtype}")
            else:
                tensors[name] = self._file.get_tensor(names[name]).to(dtype)
                problems += unfit(name, tensors[name])
        if problems:
            shown = "; ".join(sorted(problems)[:_SHOWN]) + ("; ..." if len(problems) > _SHOWN else "")
            raise InputError(f"{self.path}: {shown}", remedy)
        return tensors


def unfit(name: str, tensor: Tensor) -> list[str]:
    """Say what is wrong with the values of a tensor of floats or whole numbers."""
    if not torch.isfinite(tensor).all():
        return [f"{name} has NaN or infinite values"]
    if tensor.is_floating_point() and tensor.numel() and tensor.abs().max() > FLOAT_LIMIT:
        return [f"{name} has values beyond {FLOAT_LIMIT:g}"]
    return []


@contextmanager
def open_tensors(path: Path, remedy: str) -> Iterator[TensorFile]:
    """Open a file of tensors; raises InputError with `remedy` where it is damaged."""
    try:
        with open_file(path) as stream:  # refuses a pipe, on which safetensors would block
            header = int.from_bytes(stream.read(8), "little")
        if header > HEADER_LIMIT:
            raise BadDocument(f"has a header of {header} bytes, the limit is {HEADER_LIMIT}")
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            forms = {name: Form(part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
            yield TensorFile(path, forms, file.metadata() or {}, file)
    except (SafetensorError, BadDocument, OSError) as error:
        raise InputError(f"{path}: damaged or truncated ({reason(error)})", remedy) from error
