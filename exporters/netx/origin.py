"""What netx has no word for, kept as a text in the files that `write` makes.

lava-dl does not read it: layers and neurons say what the network computes. It lets `stas-export` read its own
files back to the same graph: T, classes, and names of nodes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import ConfigDict

from stas_neuro.files import check_version, parse_json
from stas_neuro.ir import Graph, Shape

KEY = "stas_neuro"
"""Name of the text, beside the group of layers."""
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The graph that a file was made from, without what netx says.

    `names` has those of all nodes in order; `unit` is that of the logits, `z_limit` and `y_shift` are of the
    readout.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    schema_version: int
    time_steps: int
    input_shape: Shape
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    names: tuple[str, ...]
    scopes: tuple[str, ...]
    unit: float
    z_limit: int
    y_shift: int

    def to_json(self) -> str:
        """Write it as JSON."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def of(cls, graph: Graph) -> Origin:
        """Describe a graph that netx can express."""
        readout: Any = graph.readout
        output: Any = graph.output
        return cls(
            schema_version=VERSION,
            time_steps=graph.time_steps,
            input_shape=graph.input.shape,
            classes=graph.classes,
            mean=graph.preprocessing.mean,
            std=graph.preprocessing.std,
            names=tuple(node.name for node in graph.nodes),
            scopes=tuple(node.scope for node in graph.nodes),
            unit=output.unit,
            z_limit=readout.z_limit,
            y_shift=readout.y_shift,
        )

    @classmethod
    def from_json(cls, text: str, where: str) -> Origin:
        """Read it; raises InputError, with `where`, for a text of another form or version."""

        def check(document: dict[str, Any]) -> None:
            check_version(document, VERSION, where)

        remedy = f"convert the bundle again, or remove {KEY!r} and give --time-steps"
        return parse_json(cls, text.encode("utf-8", "surrogatepass"), where, remedy, check)
