"""The neutral form of a network: JSON for its structure, one npz for its arrays. Needs numpy only.

It is what Lava processes are built from, here and in an exported package. A layer names its process by `op`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .arrays import read_npz
from .documents import BadDocument, open_file, parse_json, reason, shown
from .failure import LavaFailure
from .reading import read_as

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

FORMAT = "stas-neuro lava network"
SCHEMA_VERSION = 3
NETWORK_FILE = "network.json"
WEIGHTS_FILE = "weights.npz"
CORES_FILE = "cores.npz"
LARGEST_FILE = 1 << 23
"""Bytes of a network.json that is read; a layer takes 500."""
_REMEDY = "export the network again"
FLOAT = "float"
FIXED = "fixed"
"""Integers throughout, from the pixels to the logits."""


@dataclass(frozen=True)
class Value:
    """What a port sends: `kind` as in the IR (spike, graded, current, mask, ...), `shape` of one message."""

    kind: str
    shape: Shape


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One process: `op` is its class, `phase` when it runs, `params` its attributes."""

    name: str
    op: str
    phase: str
    params: Mapping[str, Any]
    outputs: Mapping[str, Value]


@dataclass(frozen=True, kw_only=True)
class Wire:
    """A connection of ports; `delay` 1 brings the value of the previous model step (feedback)."""

    src: str
    src_port: str
    dst: str
    dst_port: str
    delay: int = 0


@dataclass(frozen=True, eq=False, kw_only=True)
class Network:
    """A network of `time_steps` model steps, in floating point or in integers.

    `layers` stand in topological order of the undelayed wires. `tensors` maps "layer/param" to arrays, of
    float64 or, where `arithmetic` is fixed, int16. `mean` and `std` normalise images per channel,
    (x / 255 - mean) / std for uint8 ones; a fixed network takes them as they are, its first layer does that.
    `cores` maps "layer/what" to arrays, what a layer is told of the cores it is on (see `processes.pieces`);
    empty for a network on none. They change no result.
    """

    arithmetic: str
    time_steps: int
    layers: tuple[Layer, ...]
    wires: tuple[Wire, ...]
    tensors: Mapping[str, Array]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    cores: Mapping[str, Array] = field(default_factory=dict)

    @cached_property
    def _by_name(self) -> dict[str, Layer]:
        return {layer.name: layer for layer in self.layers}

    @cached_property
    def _wires_into(self) -> dict[str, tuple[Wire, ...]]:
        into: dict[str, list[Wire]] = {}
        for wire in self.wires:
            into.setdefault(wire.dst, []).append(wire)
        return {name: tuple(wires) for name, wires in into.items()}

    def layer(self, name: str) -> Layer:
        """The layer of that name; KeyError where there is none."""
        return self._by_name[name]

    def of_op(self, op: str) -> tuple[Layer, ...]:
        """Layers of one op, in order."""
        return tuple(layer for layer in self.layers if layer.op == op)

    @property
    def accumulators(self) -> tuple[Layer, ...]:
        """Layers that decide on halting, in block order."""
        return tuple(layer for layer in self.layers if layer.op in ("HaltAccumulate", "LateHaltAccumulate"))

    def wires_into(self, name: str) -> tuple[Wire, ...]:
        """The wires that end at a layer."""
        return self._wires_into.get(name, ())

    def params_of(self, name: str) -> dict[str, Array]:
        """The arrays of a layer by parameter name."""
        return _of_layer(self.tensors, name)

    def place_of(self, name: str) -> dict[str, Array]:
        """What a layer knows of its cores; empty where it is on none."""
        return _of_layer(self.cores, name)

    @property
    def image_shape(self) -> Shape:
        """Shape of one image that Input takes: (C, H, W), or (T, C, H, W) for event data."""
        source = self.of_op("Input")[0]
        frames = () if source.phase == "once" else (self.time_steps,)
        return (*frames, *source.params["shape"])

    @property
    def unit(self) -> float:
        """What the integers that a fixed network gives are multiplied by to be logits."""
        return float(self.of_op("Output")[0].params["unit"])

    def prepare(self, images: Array) -> Array:
        """What Input takes: (x / 255 - mean) / std of uint8 images, (x - mean) / std of float, as float64.

        A fixed network takes uint8 images as they are. LavaFailure says so where it gets others, or where
        images have another shape.
        """
        self.check_shape(images)
        if self.arithmetic == FIXED:
            if images.dtype != np.uint8:
                raise LavaFailure(
                    f"pixels are {images.dtype}, the network computes in integers", "give uint8 in 0..255"
                )
            return images
        x = images.astype(np.float64)
        if images.dtype == np.uint8:
            x /= 255.0
        mean, std = (np.asarray(values, np.float64)[:, None, None] for values in (self.mean, self.std))
        normalised: Array = (x - mean) / std
        return normalised

    def check_shape(self, images: Array) -> None:
        """Raise LavaFailure unless there are images, (B, *image_shape)."""
        wanted = self.image_shape
        if len(images.shape) == 0 or len(images) == 0 or images.shape[1:] != wanted:
            raise LavaFailure(
                f"images have shape {images.shape}, the network takes (B, {', '.join(map(str, wanted))})",
                "give at least one image of that shape",
            )

    def save(self, directory: Path) -> None:
        """Write network.json, weights.npz and, of a network on cores, cores.npz into a directory."""
        document = {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "arithmetic": self.arithmetic,
            "time_steps": self.time_steps,
            "classes": list(self.classes),
            "preprocessing": {"mean": list(self.mean), "std": list(self.std)},
            "layers": [asdict(layer) for layer in self.layers],
            "wires": [asdict(wire) for wire in self.wires],
        }
        (directory / NETWORK_FILE).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        save_arrays(directory / WEIGHTS_FILE, self.tensors)
        if self.cores:
            save_arrays(directory / CORES_FILE, self.cores)

    @staticmethod
    def load(directory: Path, *, checked: bool = True) -> Network:
        """Read what `save` wrote.

        Raises LavaFailure where a file is missing, damaged, of another format or too large, or, unless it
        shall not be checked, the network cannot be run (`rules`); it names the file and the place.
        """
        from .rules import check_network  # which is about networks, so imports this module

        path = directory / NETWORK_FILE
        try:
            with open_file(path, LARGEST_FILE) as stream:
                document = parse_json(stream.read())
            version = [document.get(key) if isinstance(document, dict) else None for key in _VERSION]
            if version != [FORMAT, SCHEMA_VERSION]:
                words = " version ".join(shown(repr(part)) for part in version)
                what = f"{path}: is {words}, this program reads version {SCHEMA_VERSION}"
                raise LavaFailure(what, f"{_REMEDY} with a stas-neuro of the same age")
            read = read_as(_Document, document)
        except (OSError, BadDocument) as error:
            raise LavaFailure(f"{path}: {reason(error)}", _REMEDY) from error
        network = Network(
            arithmetic=read.arithmetic,
            time_steps=read.time_steps,
            layers=read.layers,
            wires=read.wires,
            tensors=load_arrays(directory / WEIGHTS_FILE),
            classes=read.classes,
            mean=read.preprocessing.mean,
            std=read.preprocessing.std,
            cores=load_arrays(directory / CORES_FILE) if os.path.lexists(directory / CORES_FILE) else {},
        )
        try:
            if checked:
                check_network(network)
        except BadDocument as error:
            raise LavaFailure(f"{directory}: {error}", _REMEDY) from error
        return network


@dataclass(frozen=True)
class _Preprocessing:
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class _Document:
    """What network.json holds."""

    format: str
    schema_version: int
    arithmetic: str
    time_steps: int
    classes: tuple[str, ...]
    preprocessing: _Preprocessing
    layers: tuple[Layer, ...]
    wires: tuple[Wire, ...]


_VERSION = ("format", "schema_version")


def save_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays by name to an npz file."""
    np.savez(path, **arrays)  # type: ignore[arg-type]


def load_arrays(path: Path) -> dict[str, Array]:
    """Read what `save_arrays` wrote; LavaFailure names a file that is missing or damaged."""
    try:
        return read_npz(path)
    except (OSError, BadDocument) as error:
        raise LavaFailure(f"{path}: {reason(error)}", _REMEDY) from error


def _of_layer(arrays: Mapping[str, Array], name: str) -> dict[str, Array]:
    prefix = f"{name}/"
    return {key[len(prefix) :]: array for key, array in arrays.items() if key.startswith(prefix)}
