"""What an importer is: something that makes a graph of a model in another form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from stas_neuro.ir import Graph


def is_factory(source: object) -> bool:
    """Tell whether a source is the text "file.py:function"."""
    return isinstance(source, str | Path) and str(source).rpartition(":")[0].endswith(".py")


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What an importer can be told; each says which of it it needs.

    Parameters
    ----------
    example : array or tensor, optional
        Images as the model takes them (normalised), on which the graph is compared with the model.
    axes : str, optional
        Axes of the example, a letter each: B images, T steps, C channels, H, W. Default: "BCHW" for four,
        "BTCHW" for five.
    weights : Path, optional
        A file of weights to load into the model.
    classes : sequence of str, optional
        Names of the classes. Default: "0", "1", ...
    mean, std : sequence of float, optional
        What an image was normalised by, a number a channel, before it became the example. Default: 0 and 1.
    neurons : mapping
        The model's own classes of neurons, each with the `Neuron` that it is, or a function that gives that
        of a module.
    """

    example: Any = None
    axes: str | None = None
    weights: Path | None = None
    classes: Sequence[str] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    neurons: Mapping[type, Any] = field(default_factory=dict)

    @property
    def told(self) -> tuple[str, ...]:
        """Names of the options that are given."""
        empty = ("neurons",) if not self.neurons else ()
        return tuple(name for name, value in vars(self).items() if value is not None and name not in empty)


@dataclass(frozen=True)
class Imported:
    """A traced graph, and what the user should know of how it was made."""

    graph: Graph
    notes: tuple[str, ...] = ()


class Importer(Protocol):
    """Makes graphs. An importer is registered by name, see `stas_neuro.importers`."""

    summary: str
    """What it reads, in a line of help."""

    def accepts(self, source: object) -> bool:
        """Tell whether a source is of its kind, without reading it."""

    def read(self, source: Any, options: ImportOptions) -> Imported:
        """Make a traced or folded graph.

        Raises
        ------
        InputError
            With every reason why a graph cannot express the source, each with its place.
        """
