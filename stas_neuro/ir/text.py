"""Readable text form of a graph, for golden tests, inspection and comparing two graphs by `diff`.

    stas-ir 1
    stage folded
    time_steps 4
    classes "cat", "dog"
    preprocessing mean 0.5 std 0.25

    [once stem]
    %input = Input(shape=(1, 28, 28))
        ; y: current(1, 28, 28)
    %conv = Conv2d(in_channels=1, ..., bias=True) x=%input:y
        weight float64 (8, 1, 3, 3) 1f0a33c9
        ; y: current(8, 28, 28)

`[phase scope]` holds for the nodes below it, `alive=%halt:alive@-1` is an edge from the step before, a
tensor shows its dtype, shape and the first digits of its SHA-256. A line that begins with `;` is a comment;
the printed ones give the type of each output.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stas_neuro.documents import shown
from stas_neuro.ir.edges import Edge
from stas_neuro.ir.graph import Graph
from stas_neuro.ir.ops import NODE_TYPES, Node
from stas_neuro.ir.problems import IRError, Problem
from stas_neuro.ir.types import Array, Phase, Preprocessing, Stage

_HEADER = "stas-ir 1"
_COMMON = ("name", "phase", "scope")
_SECTION = re.compile(r"\[(?P<phase>\w+) (?P<scope>.+)\]")
_NODE = re.compile(r"%(?P<name>\S+) = (?P<type>\w+)(?P<attributes>\(.*?\))(?P<inputs>(?: \w+=%\S+)*)")
_INPUT = re.compile(r" (?P<port>\w+)=%(?P<src>[^\s:]+):(?P<src_port>\w+)(?P<delay>@-1)?")
_TENSOR = re.compile(r"(?P<param>\w+) (?P<dtype>\w+) (?P<shape>\(.*\)) (?P<digest>[0-9a-f]+)")


def print_graph(graph: Graph) -> str:
    """Write a graph as text, tensors by their digests only."""
    numbers = {key: ", ".join(map(repr, getattr(graph.preprocessing, key))) for key in ("mean", "std")}
    lines = [
        _HEADER,
        f"stage {graph.stage}",
        f"time_steps {graph.time_steps}",
        f"classes {', '.join(json.dumps(name) for name in graph.classes)}",
        f"preprocessing mean {numbers['mean']} std {numbers['std']}",
    ]
    section = ""
    for node in graph.nodes:
        if (header := f"[{node.phase} {node.scope}]") != section:
            section = header
            lines += ["", section]
        lines += _print_node(graph, node)
    return "\n".join(lines) + "\n"


def _print_node(graph: Graph, node: Node) -> list[str]:
    attributes = ", ".join(
        f"{name}={value!r}" for name, value in node.written().items() if name not in _COMMON
    )
    inputs = "".join(
        f" {port}=%{edge.src}:{edge.src_port}{'@-1' if edge.delay else ''}"
        for port, edge in graph.inputs(node).items()
    )
    tensors = [
        f"    {param} {tensor.dtype} {tensor.shape} {digest(tensor)}"
        for param in node.params(graph.time_steps)
        for tensor in (graph.tensor(node, param),)
    ]
    types = [f"    ; {port}: {graph.types[node.name, port]}" for port in node.OUTPUTS]
    return [f"%{node.name} = {type(node).__name__}({attributes}){inputs}", *tensors, *types]


def digest(tensor: Array) -> str:
    """Return 8 hexadecimal digits of the SHA-256 of a tensor's little-endian bytes in C order."""
    little = tensor.astype(tensor.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(little.tobytes()).hexdigest()[:8]


def parse_graph(text: str, tensors: Mapping[str, Array]) -> Graph:
    """Read a graph from text and the tensors it names.

    Raises
    ------
    IRError
        Naming the line that cannot be read or the tensor that differs from the text; or, where the text is
        fine, whatever is wrong with the graph.
    """
    reader = _Reader(tensors)
    for number, line in enumerate(text.splitlines(), 1):
        try:
            reader.read(line.strip())
        except _Unreadable as e:
            raise IRError(
                Problem(f"line {number}", f"{shown(line.strip())!r}: {shown(str(e))}", "mend the text")
            ) from e
    return reader.graph()


class _Unreadable(Exception):
    """A line that is not of the text form; says why."""


@dataclass
class _Reader:
    """What was read so far, line by line."""

    tensors: Mapping[str, Array]
    fields: dict[str, str] = field(default_factory=dict)
    section: tuple[Phase, str] | None = None
    nodes: list[Node] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    seen_header: bool = False

    def read(self, line: str) -> None:
        if not line or line.startswith(";"):
            return
        if not self.seen_header:
            if line != _HEADER:
                raise _Unreadable(f"a graph begins with {_HEADER!r}")
            self.seen_header = True
        elif match := _SECTION.fullmatch(line):
            self.section = _phase(match["phase"]), match["scope"]
        elif match := _NODE.fullmatch(line):
            self._node(match)
        elif match := _TENSOR.fullmatch(line):
            self._tensor(match)
        else:
            key, _, value = line.partition(" ")
            if key not in ("stage", "time_steps", "classes", "preprocessing") or key in self.fields:
                raise _Unreadable("is no field, section, node or tensor")
            self.fields[key] = value

    def _node(self, match: re.Match[str]) -> None:
        if self.section is None:
            raise _Unreadable("no [phase scope] stands before this node")
        if match["type"] not in NODE_TYPES:
            raise _Unreadable(f"there is no node type {match['type']}")
        cls = NODE_TYPES[match["type"]]
        phase, scope = self.section
        try:
            attributes = _attributes(match["attributes"])
            self.nodes.append(cls(name=match["name"], phase=phase, scope=scope, **attributes))
        except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as e:
            raise _Unreadable(f"attributes of {match['type']}: {e}") from e
        for given in _INPUT.finditer(match["inputs"]):
            delay = 1 if given["delay"] else 0
            self.edges.append(Edge(given["src"], given["src_port"], match["name"], given["port"], delay))

    def _tensor(self, match: re.Match[str]) -> None:
        if not self.nodes:
            raise _Unreadable("no node stands before this tensor")
        key = f"{self.nodes[-1].name}/{match['param']}"
        if key not in self.tensors:
            raise _Unreadable(f"there is no tensor {key}")
        tensor = self.tensors[key]
        given = str(tensor.dtype), str(tensor.shape), digest(tensor)
        if given != (match["dtype"], match["shape"], match["digest"]):
            raise _Unreadable(f"the tensor given is {' '.join(given)}")

    def graph(self) -> Graph:
        """Make the graph once every line is read."""
        f = self.fields
        missing = [key for key in ("stage", "time_steps", "classes", "preprocessing") if key not in f]
        if missing:
            raise IRError(Problem("graph", f"the text has no {', '.join(missing)}", "add them"))
        try:
            mean, std = f["preprocessing"].removeprefix("mean ").split(" std ")
            return Graph(
                stage=Stage(f["stage"]),
                time_steps=int(f["time_steps"]),
                nodes=tuple(self.nodes),
                edges=tuple(self.edges),
                tensors=self.tensors,
                classes=tuple(json.loads(f"[{f['classes']}]")),
                preprocessing=Preprocessing(_numbers(mean), _numbers(std)),
            )
        except (ValueError, RecursionError) as e:
            raise IRError(
                Problem("graph", f"a field of the text cannot be read: {shown(str(e))}", "mend the text")
            ) from e


def _attributes(text: str) -> dict[str, Any]:
    """Read "(name=literal, ...)"."""
    call = ast.parse(f"_{text}", mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
        raise ValueError(f"{text} is no list of name=value")
    return {keyword.arg or "**": ast.literal_eval(keyword.value) for keyword in call.keywords}


def _phase(word: str) -> Phase:
    try:
        return Phase(word)
    except ValueError as e:
        raise _Unreadable(f"the phases are {', '.join(Phase)}") from e


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in text.split(","))
