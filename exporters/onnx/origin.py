"""What ONNX has no word for, kept as a text in the metadata of the files that `write` makes.

It names phases, scopes, kinds and attributes of nodes. Other programs do not need it: nodes, functions and
initialisers compute the network, and a reader compares them with what this text says.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pydantic import ConfigDict

from stas_neuro.files import check_version, parse_json
from stas_neuro.graph_document import Document, graph_document
from stas_neuro.ir import Graph

KEY = "stas_neuro"
"""Key in the metadata of the model."""
VERSION = 1
"""Also of the forms that nodes have: a file with other forms does not agree with its metadata."""
Float = Literal["float32", "float64"]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The graph that a file was made from, without its tensors, and how it was written."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    schema_version: int
    dtype: Float
    spikes: bool
    graph: dict[str, Any]

    @classmethod
    def of(cls, graph: Graph, dtype: Float, spikes: bool) -> Origin:
        """Describe a graph."""
        return cls(schema_version=VERSION, dtype=dtype, spikes=spikes, graph=graph_document(graph))

    def to_json(self) -> str:
        """Write it as JSON."""
        return json.dumps(asdict(self), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Origin:
        """Read it; raises InputError for a text of another form or version."""
        where = f"metadata {KEY}"

        def check(document: Document) -> None:
            check_version(document, VERSION, where)

        return parse_json(
            cls, text.encode("utf-8", "surrogatepass"), where, "convert the bundle again", check
        )
