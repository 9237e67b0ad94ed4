"""The protocol of importers, which convert models in other formats to graphs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from stas_neuro.errors import InputError
from stas_neuro.ir import Graph


def is_factory(source: object) -> bool:
    """Return whether a source is the text "file.py:function"."""
    return isinstance(source, str | Path) and str(source).rpartition(":")[0].endswith(".py")


def is_nir(source: object) -> bool:
    """Return whether a source is the path of a NIR file."""
    return isinstance(source, str | Path) and Path(source).suffix == ".nir"


def is_netx(source: object) -> bool:
    """Return whether a source is the path of a netx file."""
    return isinstance(source, str | Path) and Path(source).suffix == ".net"


def is_onnx(source: object) -> bool:
    """Return whether a source is the path of an ONNX file."""
    return isinstance(source, str | Path) and Path(source).suffix == ".onnx"


def is_imported(source: object) -> bool:
    """Return whether a source is a text or a path that an importer of stas-neuro reads."""
    return any(accepts(source) for accepts in (is_factory, is_nir, is_netx, is_onnx))


def file_of(factory: str | Path) -> Path:
    """Return the file of "file.py:function"."""
    return Path(str(factory).rpartition(":")[0])


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Options of importers; each importer documents which it requires.

    Parameters
    ----------
    example : array or tensor, optional
        Inputs of the model (normalised images), on which the graph is compared with the model.
    axes : str, optional
        Axes of the example, one letter for each: B images, T steps, C channels, H, W. Default: "BCHW" for
        four, "BTCHW" for five, "BCW" for three: sequences have no H.
    weights : Path, optional
        A file of weights to load into the model.
    ema : bool
        Take the moving average of the weights that the file also contains.
    classes : sequence of str, optional
        Names of the classes. Default: "0", "1", ...
    mean, std : sequence of float, optional
        Mean and standard deviation that the example was normalised with, by channel. Default: 0 and 1.
    neurons : mapping
        The model's own classes of neurons, each with its `Neuron`, or a function that returns the `Neuron`
        of a module.
    dt : float, optional
        Time step of a NIR file, in the unit of its time constants.
    time_steps : int, optional
        T of a NIR file or a netx file; of a module of ReLUs, which are then converted to neurons
        (`stas_neuro.importers.ann`).
    input_shape : tuple of int, optional
        (C, H, W) of the input of a netx file.
    stem, stem_mode : str, optional
        Of a module of ReLUs: the submodule that runs before the others, and what these receive.
    fire : ">" or ">=", optional
        When the neurons of a NIR file fire. Default: ">", as NIR says.
    """

    example: Any = None
    axes: str | None = None
    weights: Path | None = None
    ema: bool = False
    classes: Sequence[str] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    neurons: Mapping[type, Any] = field(default_factory=dict)
    dt: float | None = None
    time_steps: int | None = None
    input_shape: Sequence[int] | None = None
    stem: str | None = None
    stem_mode: str | None = None
    fire: str | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the options that are given."""
        unset = ("neurons", "ema")
        return tuple(
            name for name, value in vars(self).items() if (value if name in unset else value is not None)
        )


def refuse_unused(options: ImportOptions, used: Collection[str], what: str) -> None:
    """Raise InputError for options that an importer, which reads `what`, has no use for."""
    if unused := [name for name in options.given if name not in used]:
        remedy = f"use {', '.join(used)}" if used else "leave it out"
        raise InputError(f"{', '.join(unused)}: not an option for {what}", remedy)


@dataclass(frozen=True)
class Imported:
    """What an importer returns: a traced or folded graph, and its integer program, if given.

    `notes` are remarks for the user, `warnings` say in which way the model computes something else.
    """

    graph: Graph
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    quantised: Graph | None = None


class Importer(Protocol):
    """Converts models to graphs; registered by name, see `stas_neuro.importers`."""

    summary: str
    """What it reads, in one line."""

    def accepts(self, source: object) -> bool:
        """Return whether it can read a source, without reading it."""

    def read(self, source: Any, options: ImportOptions) -> Imported:
        """Convert a source to a traced or folded graph.

        Raises
        ------
        InputError
            If a graph cannot express the source: all reasons at once, each with its place.
        """
