"""What cannot be one ONNX file, and why."""

from __future__ import annotations

from stas_neuro.ir import LIF, Graph, Phase, Problem

FILE_LIMIT = 2**31 - 1
"""Largest ONNX file in bytes, which is Protobuf's limit."""
WEIGHTS_LIMIT = FILE_LIMIT - 2**26
"""Bytes of weights: the rest is for nodes and functions."""


def refusals(graph: Graph) -> list[Problem]:
    """Return a problem for each reason why a graph cannot be one ONNX file."""
    behind = behind_stem(graph)
    problems = [
        Problem(
            node.name,
            "is a step of the stem and depends on an Integrate, which reduces all of its steps: "
            "a file has one Scan for the stem",
            "let it run once, or in the model steps",
        )
        for node in graph.nodes
        if node.phase == Phase.STEM and node.name in behind
    ]
    problems += [
        Problem(node.name, "is reset by subtraction, the LIF of these files to 0", "use neurons reset to 0")
        for node in graph.of_type(LIF)
        if node.reset != "zero"
    ]
    size = sum(tensor.nbytes for tensor in graph.tensors.values())
    if size > WEIGHTS_LIMIT:
        what = f"has {size} bytes of weights, a file holds {WEIGHTS_LIMIT}"
        problems.append(Problem("graph", what, "convert the network to another target (lava)"))
    return problems


def behind_stem(graph: Graph) -> set[str]:
    """Name the nodes before the model steps that depend on all steps of the stem."""
    found: set[str] = set()
    for node in graph.nodes:
        behind = any(edge.src in found for edge in graph.inputs(node).values())
        if node.phase in (Phase.ONCE, Phase.STEM) and (node.traits.stacks or behind):
            found.add(node.name)
    return found
