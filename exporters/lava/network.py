"""The neutral form of a network: JSON for its structure, one npz for its arrays. Needs numpy only.

It is what Lava processes are built from, here and in an exported package. A layer names its process by `op`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .failure import LavaFailure

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

FORMAT = "stas-neuro lava network"
SCHEMA_VERSION = 2
NETWORK_FILE = "network.json"
WEIGHTS_FILE = "weights.npz"
CORES_FILE = "cores.npz"
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
    `cores` maps "layer/what" to arrays, what a layer is told of the cores it is on (see `processes.place`);
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

    def layer(self, name: str) -> Layer:
        """The layer of that name; KeyError where there is none."""
        return {layer.name: layer for layer in self.layers}[name]

    def of_op(self, op: str) -> tuple[Layer, ...]:
        """Layers of one op, in order."""
        return tuple(layer for layer in self.layers if layer.op == op)

    def wires_into(self, name: str) -> Iterator[Wire]:
        """The wires that end at a layer."""
        return (wire for wire in self.wires if wire.dst == name)

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

        A fixed network takes uint8 images as they are, and LavaFailure says so where it gets others.
        """
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
    def load(directory: Path) -> Network:
        """Read what `save` wrote; LavaFailure where it is missing or of another format."""
        path = directory / NETWORK_FILE
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            found = (document.get("format"), document.get("schema_version"))
        except (OSError, ValueError, AttributeError) as error:
            raise LavaFailure(f"{path}: {error}", "export the network again") from error
        if found != (FORMAT, SCHEMA_VERSION):
            what = f"{path}: is {found[0]!r} version {found[1]}, this program reads version {SCHEMA_VERSION}"
            raise LavaFailure(what, "export the network again with a stas-neuro of the same age")
        return Network(
            arithmetic=document["arithmetic"],
            time_steps=document["time_steps"],
            layers=tuple(_layer(entry) for entry in document["layers"]),
            wires=tuple(Wire(**entry) for entry in document["wires"]),
            tensors=load_arrays(directory / WEIGHTS_FILE),
            classes=tuple(document["classes"]),
            mean=tuple(document["preprocessing"]["mean"]),
            std=tuple(document["preprocessing"]["std"]),
            cores=load_arrays(directory / CORES_FILE) if (directory / CORES_FILE).exists() else {},
        )


def save_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays by name to an npz file."""
    np.savez(path, **arrays)  # type: ignore[arg-type]


def load_arrays(path: Path) -> dict[str, Array]:
    """Read what `save_arrays` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def _of_layer(arrays: Mapping[str, Array], name: str) -> dict[str, Array]:
    prefix = f"{name}/"
    return {key[len(prefix) :]: array for key, array in arrays.items() if key.startswith(prefix)}


def _layer(entry: dict[str, Any]) -> Layer:
    params = {
        key: tuple(value) if isinstance(value, list) else value for key, value in entry["params"].items()
    }
    outputs = {port: Value(value["kind"], tuple(value["shape"])) for port, value in entry["outputs"].items()}
    return Layer(name=entry["name"], op=entry["op"], phase=entry["phase"], params=params, outputs=outputs)
