"""Graphs as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random

from fuzz.files import Files
from fuzz.mutators import TEXTS
from fuzz.networks import bundles
from fuzz.target import Target
from stas_neuro.files import read_bytes
from stas_neuro.ir import Graph
from stas_neuro.ir.text import parse_graph, print_graph

VALUES = (
    "1",
    "-1",
    "1e308",
    "nan",
    "9" * 5000,
    "None",
    "()",
    "(" * 500,
    "-" * 500 + "1",
    "'x'",
    "[1, 2]",
    "f()",
)


def graphs() -> list[Graph]:
    return [graph for bundle in bundles() for graph in (bundle.graph, bundle.quantised) if graph is not None]


def make_seeds() -> Sequence[Files]:
    return [{f"{number}.txt": print_graph(graph).encode()} for number, graph in enumerate(graphs())]


def edit_a_line(files: Files, rng: Random) -> Files:
    """Change a value, or a word, of a line, mostly: most other changes are no lines of a graph."""
    ((name, content),) = files.items() if len(files) == 1 else [("", b"")]
    if not isinstance(content, bytes) or not content.strip() or rng.random() < 0.3:
        return files
    lines = content.decode("utf-8", "replace").split("\n")
    at = rng.randrange(len(lines))
    before, equals, after = lines[at].partition("=")
    if equals and rng.random() < 0.7:
        lines[at] = before + equals + rng.choice(VALUES) + after[after.find(",") :]
    else:
        words = lines[at].split(" ")
        words[rng.randrange(len(words))] = rng.choice((*VALUES, *TEXTS))
        lines[at] = " ".join(words)
    return {name: "\n".join(lines).encode("utf-8", "surrogatepass")}


def read(inputs: Path, output: Path) -> None:
    for path in inputs.iterdir():
        text = read_bytes(path).decode("utf-8", "replace")
        number = int(path.stem)
        graph = parse_graph(text, graphs()[number].tensors)
        assert parse_graph(print_graph(graph), graph.tensors) == graph


TARGET = Target("graph_text", make_seeds, read, edit_a_line)
