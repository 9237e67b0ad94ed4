"""What NIR has no word for, kept as a text in the metadata of the files that `write` makes.

Another program may ignore it: nodes, weights and edges say what the network computes. It lets `stas-export`
read its own files back to the same graph: names and phases of nodes, dt, T, classes, preprocessing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import ConfigDict

from stas_neuro.files import check_version, parse_json
from stas_neuro.ir import LIF, Graph, Node, Phase, Synaptic

KEY = "stas_neuro"
"""Key in the metadata of the network."""
VERSION = 1


@dataclass(frozen=True)
class OriginNode:
    """A node of the graph: whether a NIR node stands for it says its name.

    `tau` is the time constant of a LIF in steps, which tau / dt gives up to rounding only; `bias` is whether
    a layer has one, which NIR's convolutions always have.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    op: str
    phase: Literal["once", "step", "end"]
    scope: str
    tau: float | None = None
    bias: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The graph that a file was made from, without what NIR says."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    schema_version: int
    dt: float
    time_steps: int
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    blocks: int
    nodes: tuple[OriginNode, ...]

    @classmethod
    def of(cls, graph: Graph, dt: float) -> Origin:
        """Describe a graph that NIR can express."""
        return cls(
            schema_version=VERSION,
            dt=dt,
            time_steps=graph.time_steps,
            classes=graph.classes,
            mean=graph.preprocessing.mean,
            std=graph.preprocessing.std,
            blocks=graph.blocks,
            nodes=tuple(map(_origin_of, graph.nodes)),
        )

    def to_json(self) -> str:
        """Write it as JSON."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str, where: str) -> Origin:
        """Read it; raises InputError, with `where`, for a text of another form or version."""

        def check(document: dict[str, Any]) -> None:
            check_version(document, VERSION, where)

        remedy = f"convert the bundle again, or remove the metadata {KEY!r} and give --dt and --time-steps"
        return parse_json(cls, text.encode("utf-8", "surrogatepass"), where, remedy, check)


def _origin_of(node: Node) -> OriginNode:
    assert node.phase != Phase.STEM  # it is refused
    return OriginNode(
        name=node.name,
        op=type(node).__name__,
        phase=str(node.phase),  # type: ignore[arg-type]
        scope=node.scope,
        tau=float(node.tau) if isinstance(node, LIF) else None,
        bias=node.bias if isinstance(node, Synaptic) else None,
    )
