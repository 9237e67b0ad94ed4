"""Rules a graph must keep; run whenever one is made, so that an invalid Graph cannot exist.

Rules come in layers: attributes; wiring; phases, tensors and types; halting. Every problem of a layer is
reported; a layer that finds some is the last, because those above would only echo them.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from stas_neuro.ir.attributes import check_attributes
from stas_neuro.ir.halting import check_halting
from stas_neuro.ir.infer import infer_bounds, infer_types
from stas_neuro.ir.ops import FLOAT_OF, Input, Node, Output, Readout
from stas_neuro.ir.problems import Problems
from stas_neuro.ir.types import Phase, Stage, ValueType
from stas_neuro.limits import FLOAT_LIMIT
from stas_neuro.scopes import block_of

if TYPE_CHECKING:
    from stas_neuro.ir.graph import Graph

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
_NAME_REMEDY = "use letters, digits, '_', '-' and '.' only"
_DTYPES = {
    Stage.TRACED: (np.float32, np.float64),
    Stage.FOLDED: (np.float64,),
    Stage.QUANTISED: (np.int16,),
}


def verify_attributes(graph: Graph) -> None:
    """Raise an IRError if an attribute has the wrong type or range; the rest can be looked at only then."""
    problems = Problems()
    check_attributes(graph, problems)
    problems.raise_if_any()


def verify(graph: Graph) -> dict[tuple[str, str], ValueType]:
    """Return the types of all values of `graph`, by (node name, port).

    Raises
    ------
    IRError
        With every problem of the first layer of rules that is broken.
    """
    problems = Problems()
    _check_names(graph, problems)
    _check_wiring(graph, problems)
    problems.raise_if_any()
    _check_used(graph, problems)
    _check_order(graph, problems)
    _check_phases(graph, problems)
    _check_stage(graph, problems)
    _check_tensors(graph, problems)
    types = infer_types(graph, problems)
    problems.raise_if_any()
    check_halting(graph, types, problems)
    problems.raise_if_any()
    if graph.stage == Stage.QUANTISED:
        types = infer_bounds(graph, types, problems)
        problems.raise_if_any()
    return types


def _check_names(graph: Graph, problems: Problems) -> None:
    for name, count in Counter(node.name for node in graph.nodes).items():
        if count > 1:
            problems.add(name, f"{count} nodes have this name", "give every node a name of its own")
        if not _NAME.fullmatch(name):
            problems.add(repr(name), "is no node name", _NAME_REMEDY)
    blocks = max((node.blocks for node in graph.of_type(Readout)), default=0)
    for node in graph.nodes:
        if not _NAME.fullmatch(node.scope):
            problems.add(node.name, f"scope {node.scope!r} is no name", _NAME_REMEDY)
        elif (block := block_of(node.scope)) is not None and block >= blocks:
            what = f"scope is {node.scope}, the network has {blocks} blocks"
            problems.add(node.name, what, "number blocks from block0")
    for cls in (Input, Readout, Output):
        found = graph.of_type(cls)
        if len(found) != 1:
            names = ", ".join(node.name for node in found) or "none"
            problems.add("graph", f"has {len(found)} {cls.__name__} nodes ({names})", "a graph has exactly 1")
    if len(set(graph.classes)) != len(graph.classes):
        twice = sorted(name for name, count in Counter(graph.classes).items() if count > 1)
        problems.add(
            "graph", f"classes occur twice: {', '.join(twice)}", "give every class a name of its own"
        )


def _check_wiring(graph: Graph, problems: Problems) -> None:
    nodes = {node.name: node for node in graph.nodes}
    for edge in graph.edges:
        src, dst = nodes.get(edge.src), nodes.get(edge.dst)
        if src is None or dst is None:
            missing = edge.src if src is None else edge.dst
            problems.add(str(edge), f"there is no node {missing}", "connect nodes of the graph only")
            continue
        if edge.src_port not in src.OUTPUTS:
            has = ", ".join(src.OUTPUTS) or "none"
            what = f"{type(src).__name__} has no output {edge.src_port!r}"
            problems.add(str(edge), what, f"its outputs: {has}")
        if edge.dst_port not in dst.input_ports:
            has = ", ".join(dst.input_ports) or "none"
            what = f"{type(dst).__name__} has no input {edge.dst_port!r}"
            problems.add(str(edge), what, f"its inputs: {has}")
        if edge.delay not in (0, 1):
            problems.add(str(edge), f"delay is {edge.delay}", "use 0, or 1 for the previous model step")
    for (name, port), count in Counter((edge.dst, edge.dst_port) for edge in graph.edges).items():
        if count > 1:
            problems.add(f"{name}:{port}", f"{count} edges end here", "join values by an Add node")
    for node in graph.nodes:
        for port in sorted(set(node.required_inputs) - graph.inputs(node).keys()):
            problems.add(f"{node.name}:{port}", "is not connected", f"{type(node).__name__} needs this input")


def _check_used(graph: Graph, problems: Problems) -> None:
    used = {edge.src for edge in graph.edges}
    for node in graph.nodes:
        if node.name not in used and not node.traits.may_end:
            problems.add(node.name, "nothing uses its output", "remove the node or connect it")


def _check_order(graph: Graph, problems: Problems) -> None:
    position = {node.name: index for index, node in enumerate(graph.nodes)}
    for edge in graph.edges:
        if not edge.delay and position[edge.src] >= position[edge.dst]:
            problems.add(_cycle(graph, edge.dst), "is a cycle", "delay one of its edges by a step")
            return


def _cycle(graph: Graph, start: str) -> str:
    """Write out an undelayed cycle that `start` is in or behind, as "a -> b -> a"."""
    position = {node.name: index for index, node in enumerate(graph.nodes)}
    unplaced = _behind_cycles(graph)
    walked: dict[str, None] = {}  # in order
    at = start
    while at not in walked:
        walked[at] = None
        sources = {edge.src for edge in graph.inputs(at).values() if not edge.delay and edge.src in unplaced}
        at = min(sources, key=position.__getitem__)
    names = list(walked)
    return " -> ".join(reversed([*names[names.index(at) :], at]))


def _behind_cycles(graph: Graph) -> set[str]:
    """Return nodes in or behind an undelayed cycle: what is left when nodes without a source go."""
    waiting = Counter(edge.dst for edge in graph.edges if not edge.delay)
    rest = {node.name for node in graph.nodes}
    free = [name for name in rest if not waiting[name]]
    while free:
        name = free.pop()
        rest.remove(name)
        for edge in graph.consumers(name):
            waiting[edge.dst] -= not edge.delay
            if not edge.delay and not waiting[edge.dst]:
                free.append(edge.dst)
    return rest


def _check_phases(graph: Graph, problems: Problems) -> None:
    for node in graph.nodes:
        if node.phase not in node.PHASES:
            words = " or ".join(sorted(node.PHASES))
            problems.add(node.name, f"{type(node).__name__} is in phase {node.phase}", f"it runs in {words}")
    for edge in graph.edges:
        src, dst = graph.node(edge.src), graph.node(edge.dst)
        if edge.delay:
            if src.phase != Phase.STEP or not (dst.phase == Phase.STEP or dst.traits.gathers):
                problems.add(
                    str(edge), f"is delayed from {src.phase} to {dst.phase}", "only model steps delay"
                )
        elif not _may_feed(src, dst):
            what = f"goes from phase {src.phase} to {dst.phase} of {type(dst).__name__}"
            remedy = "edges go once->any, stem->stem or Integrate, step->step or Readout, end->end"
            problems.add(str(edge), what, remedy)


def _may_feed(src: Node, dst: Node) -> bool:
    if dst.traits.stacks:
        return src.phase == Phase.STEM
    if dst.traits.gathers:
        return src.phase == Phase.STEP
    return src.phase in (Phase.ONCE, dst.phase)


def _check_stage(graph: Graph, problems: Problems) -> None:
    if graph.stage != Stage.TRACED:
        for node in graph.nodes:
            if node.FOLDED_AWAY:
                what = f"{type(node).__name__} in a {graph.stage} graph"
                problems.add(node.name, what, "run the FoldBatchNorm pass")
    wrong = frozenset(FLOAT_OF.values() if graph.stage == Stage.QUANTISED else FLOAT_OF)
    for node in graph.nodes:
        if type(node) in wrong:
            what = f"{type(node).__name__} in a {graph.stage} graph"
            problems.add(node.name, what, "run the Quantise pass on the whole of a folded graph")


def _check_tensors(graph: Graph, problems: Problems) -> None:
    wanted = {
        f"{node.name}/{param}": shape
        for node in graph.nodes
        for param, shape in node.params(graph.time_steps).items()
    }  # fmt: skip
    for key in sorted(wanted.keys() - graph.tensors.keys()):
        problems.add(key, f"the tensor {wanted[key]} is missing", "give it in `tensors`")
    for key in sorted(graph.tensors.keys() - wanted.keys()):
        problems.add(key, "no node has this tensor", "remove it, or add the node it belongs to")
    for key in sorted(wanted.keys() & graph.tensors.keys()):
        _check_tensor(graph, key, wanted[key], problems)


def _check_tensor(graph: Graph, key: str, shape: tuple[int, ...], problems: Problems) -> None:
    tensor = graph.tensors[key]
    dtypes = _DTYPES[graph.stage]
    if tensor.shape != shape:
        problems.add(key, f"has shape {tensor.shape}, its node says {shape}", "mend the node or the tensor")
    if tensor.dtype not in dtypes:
        names = " or ".join(np.dtype(dtype).name for dtype in dtypes)
        problems.add(key, f"is {tensor.dtype} in a {graph.stage} graph", f"convert it to {names}")
    elif not np.isfinite(tensor).all():
        bad = int(tensor.size - np.isfinite(tensor).sum())
        what = f"{bad} of {tensor.size} values are NaN or infinite"
        problems.add(key, what, "export a model whose training converged")
    elif tensor.dtype.kind == "f" and tensor.size and max(tensor.max(), -tensor.min()) > FLOAT_LIMIT:
        worst = max(tensor.max(), -tensor.min())
        what = f"a value has magnitude {worst:g}, the largest allowed is {FLOAT_LIMIT:g}"
        problems.add(key, what, "export a model whose training converged")
    elif key.endswith("/var") and (tensor < 0).any():
        problems.add(
            key, f"a variance is {tensor.min():g}, below 0", "export the BatchNorm's running variance"
        )
