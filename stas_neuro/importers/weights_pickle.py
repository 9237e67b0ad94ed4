"""What the pickles of a torch file describe, found out without unpickling them.

torch's own restricted unpickler runs no code, but gives as much memory as a pickle asks for: a storage or a
tensor of any declared size. So a file is first read here: every name that it wants imported must be on a
short list, every storage is in the file, every tensor lies within its storage.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from stas_neuro.arrays import UNPACKED
from stas_neuro.documents import BadDocument, shown
from stas_neuro.importers.weights_machine import Global, Limited, Machine, Table

MOST_AXES = 16
EXPANDED = 4
"""Times the size of a file that its tensors may take: expanded ones take more than what is stored."""
_ITEM_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint8": 1, "bool": 1, "complex64": 8, "complex128": 16,
}  # fmt: skip
_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16",
    "CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool", "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}  # fmt: skip


class RunsCode(BadDocument):
    """A pickle that names something which is no part of plain tensors."""


@dataclass(frozen=True)
class Stored:
    """A storage that a pickle refers to: its key in the file, the dtype and number of its elements."""

    key: str
    dtype: str
    count: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.count * _ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class Form:
    """What a file says of a tensor: its dtype as torch calls it, and its shape."""

    dtype: str
    shape: tuple[int, ...]


@dataclass
class Attributes:
    """An `argparse.Namespace`, whose attributes are its values."""

    values: dict[str, Any] = field(default_factory=dict)


@dataclass
class Pickled:
    """Pickles of a file read so far: `storages` by key, and how many bytes their tensors take in all."""

    file_size: int
    storages: dict[str, Stored] = field(default_factory=dict)
    unpacked: int = 0

    def load(self, stream: Limited) -> Any:
        """Read one pickle: dicts are `Table`, tensors `Form`, namespaces `Attributes`.

        Raises
        ------
        RunsCode
            If it names anything but tensors, dicts, sizes and `argparse.Namespace`.
        BadDocument
            If it is damaged, is none that torch writes, or describes what is not in the file.
        """
        return Machine(stream, self).run()

    def check_name(self, name: str) -> None:
        """Refuse a name that is on no list."""
        module, _, own = name.rpartition(".")
        if (
            name not in _CALLS
            and _storage_dtype(name) is None
            and (module, own in _ITEM_BYTES) != ("torch", True)
        ):
            raise RunsCode(f"names {shown(name)}, which is no part of plain tensors and is not run")

    def call(self, name: str, arguments: tuple[Any, ...]) -> Any:
        """Describe what a call gives."""
        if name not in _CALLS:
            raise BadDocument(f"its pickle calls {shown(name)}, which cannot be called")
        return _CALLS[name](self, *arguments)

    def set_state(self, built: Any, state: Any) -> None:
        """Set attributes of a namespace; nobody reads those of a dict (the versions in a state_dict)."""
        if isinstance(built, Attributes) and isinstance(state, dict):
            built.values.update(state)
        elif not isinstance(built, Table):
            raise BadDocument("its pickle sets attributes of what has none")

    def recall(self, reference: Any) -> Stored:
        """Take note of a storage."""
        match reference:
            case ("storage", Global(name), str(key), _, int(count), *view) if not any(view):
                pass
            case _:
                raise BadDocument("refers to something that is no plain storage")
        dtype = _storage_dtype(name)
        if dtype is None:
            raise BadDocument(f"has a storage of {shown(name)}, which is not read")
        storage = Stored(key, dtype, count)
        if count < 0 or storage.size > self.file_size:
            what = f"has a storage of {count} elements of {dtype}, the file has {self.file_size} bytes"
            raise BadDocument(what)
        if self.storages.setdefault(key, storage) != storage:
            raise BadDocument(f"describes the storage {shown(key)!r} in two ways")
        return storage

    def tensor(self, storage: object, start: object, shape: object, strides: object) -> Form:
        """Take note of a tensor: a view of a storage within its bounds."""
        if not isinstance(storage, Stored):
            raise BadDocument("holds a tensor without a storage")
        axes, steps = _lengths(shape), _lengths(strides)
        (first,) = _lengths((start,))
        if len(axes) != len(steps) or len(axes) > MOST_AXES:
            raise BadDocument(f"holds a tensor of {len(axes)} axes with {len(steps)} strides")
        count = math.prod(axes)
        last = first + sum((axis - 1) * step for axis, step in zip(axes, steps, strict=True))
        if count and last >= storage.count:
            what = f"holds a tensor of shape {axes} with strides {steps} from {first} on"
            raise BadDocument(f"{what} in a storage of {storage.count} elements")
        self.unpacked += count * _ITEM_BYTES[storage.dtype]
        most = max(UNPACKED, EXPANDED * self.file_size)
        if self.unpacked > most:
            raise BadDocument(f"its tensors take more than {most} bytes, the file has {self.file_size}")
        return Form(storage.dtype, axes)


def _lengths(values: object) -> tuple[int, ...]:
    """Give sizes or strides, which are whole numbers of at least 0."""
    if not isinstance(values, tuple | list) or not all(type(value) is int and value >= 0 for value in values):
        raise BadDocument("holds a tensor whose shape, strides or start are no whole numbers of at least 0")
    return tuple(values)


def _storage_dtype(name: str) -> str | None:
    module, _, kind = name.rpartition(".")
    return _STORAGES.get(kind) if module in ("torch", "torch.cuda") else None


def _table(pickled: Pickled, *arguments: Any) -> Table:
    table = Table()
    for pairs in arguments:
        for key, value in pairs:
            table.put(key, value)
    return table


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _table,
    "collections.Counter": lambda pickled, *counts: counts,
    "__builtin__.set": lambda pickled, *members: members,
    "argparse.Namespace": lambda pickled: Attributes(),
    "torch.Size": lambda pickled, axes: _lengths(axes),
    "torch.device": lambda pickled, *words: words,
    "torch._utils._rebuild_tensor": lambda pickled, *view: pickled.tensor(*view),
    "torch._utils._rebuild_tensor_v2": lambda pickled, a, b, c, d, *flags: pickled.tensor(a, b, c, d),
    "torch._utils._rebuild_parameter": lambda pickled, data, *flags: data,
}
"""What a pickle may call, and what it gives here."""
