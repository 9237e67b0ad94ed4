"""Files of lava-dl's netx as plain layers; `netx_graph` gives them a meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stas_neuro.documents import BadDocument, shown
from stas_neuro.errors import InputError
from stas_neuro.exporters.netx.origin import KEY
from stas_neuro.importers.hdf5_file import Format, read_hdf5, read_hdf5_here
from stas_neuro.ir import Array

NETX = Format("netx", "use a file that export_hdf5 of lava-dl's slayer wrote")


class Unreadable(Exception):
    """A layer that a graph cannot express: what, and the remedy."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what, remedy)
        self.what, self.remedy = what, remedy


@dataclass(frozen=True)
class NetxLayer:
    """A layer: its number, the name of its type, and its fields, those of its neurons as "neuron/..."."""

    index: int
    kind: str
    fields: Mapping[str, Array]

    def __contains__(self, field: str) -> bool:
        return field in self.fields

    def integers(self, field: str) -> Array:
        """Return numbers as int64; raises Unreadable where they are missing or not whole."""
        array = self.fields.get(field)
        if array is None or array.dtype.kind not in "iufb":
            raise Unreadable(f"{field} is missing, or no numbers", NETX.remedy)
        if not (
            np.isfinite(array).all() and (array == np.floor(array)).all() and (np.abs(array) < 2**31).all()
        ):
            what = f"{field} has values that are not whole numbers of at most 31 bits"
            raise Unreadable(what, "export integers: quantise weights (pre_hook_fx) and biases in slayer")
        return array.astype(np.int64)

    def integer(self, field: str, default: int | None = None) -> int:
        """Return a single whole number, or the default where the field is missing."""
        if default is not None and field not in self:
            return default
        values = self.integers(field).reshape(-1)
        if values.size != 1:
            raise Unreadable(f"{field} has {values.size} values", "give one for the layer")
        return int(values[0])

    def pair(self, field: str, default: int) -> tuple[int, int]:
        """Return a number for rows and one for columns, each at least 0."""
        values = self.integers(field).reshape(-1) if field in self else np.array([default])
        if values.size not in (1, 2) or values.min() < 0:
            raise Unreadable(f"{field} is {values.tolist()!r:.80}", "give a number for rows and columns")
        rows, columns = np.broadcast_to(values, 2)
        return int(rows), int(columns)

    def text(self, field: str) -> str:
        """Return a text; an array of one text is one too."""
        array = self.fields.get(field)
        if array is None or array.dtype.kind != "U" or array.size != 1:
            raise Unreadable(f"{field} is missing, or no text", NETX.remedy)
        return str(array.reshape(-1)[0])


@dataclass(frozen=True)
class NetxNetwork:
    """Content of a file: its layers in order, steps of a sample if it has them, and what stas-neuro added."""

    layers: tuple[NetxLayer, ...]
    steps: int | None
    origin: str | None


def read_netx(path: Path) -> NetxNetwork:
    """Read a file in a child process; raises InputError as `read_hdf5`, or when it has no layers."""
    return _parsed(path, read_hdf5(path, NETX))


def read_netx_here(path: Path) -> NetxNetwork:
    """As `read_netx`, in this process: for tests with many files."""
    return _parsed(path, read_hdf5_here(path, NETX))


def _parsed(path: Path, arrays: Mapping[str, Array]) -> NetxNetwork:
    """Group arrays by layer."""
    try:
        layers: dict[str, dict[str, Array]] = {}
        for name, array in arrays.items():
            match name.split("/", 2):
                case ["layer", index, field]:
                    layers.setdefault(index, {})[field] = array
        if not layers:
            raise BadDocument("is missing, or has no layers", ("layer",))
        numbered = [str(index) for index in range(len(layers))]
        for index in layers.keys() - set(numbered):
            raise BadDocument(f"layers are numbered from 0, and one is {shown(index)!r}", ("layer",))
        steps = arrays.get("simulation/tSample")
        known = steps is not None and steps.size == 1 and steps.dtype.kind in "iu"
        origin = arrays.get(KEY)
        return NetxNetwork(
            tuple(_layer(int(index), layers[index]) for index in numbered),
            int(steps.reshape(-1)[0]) if steps is not None and known else None,
            str(origin) if origin is not None and origin.dtype.kind == "U" and not origin.shape else None,
        )
    except BadDocument as error:
        raise InputError(f"{path}: {error}", NETX.remedy) from error


def _layer(index: int, fields: Mapping[str, Array]) -> NetxLayer:
    layer = NetxLayer(index, "", fields)
    try:
        return NetxLayer(index, layer.text("type"), fields)
    except Unreadable as error:
        raise BadDocument(error.what, (f"layer/{index}",)) from error
