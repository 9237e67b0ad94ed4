"""What of an operation stock processes cannot express; `lower.py` says which check is whose."""

from __future__ import annotations

from stas_neuro.ir import (
    ALIGN,
    EVENTS,
    POLICIES,
    Add,
    FixedConv2d,
    FixedInput,
    FixedLIF,
    FixedLinear,
    FixedTokenMean,
    Graph,
    HaltAccumulate,
    HaltingScore,
    Node,
    Problems,
)

from .halting import HALTING_FORMS
from .units import UNIT, comes_by_synapses, drives_lifs_only, split_bias


def check_input(graph: Graph, node: FixedInput, problems: Problems) -> None:
    """Refuse bias currents."""
    if node.encoding == "bias":
        what = "the image enters as bias currents, which a stock LIF takes once and for all images"
        problems.add(node.name, what, "compile with --input-encoding graded")


def check_weights(graph: Graph, node: FixedConv2d | FixedLinear, problems: Problems) -> None:
    """Refuse currents as inputs, and biases that synapses cannot bring."""
    if graph.source_type(graph.inputs(node)["x"]).kind not in EVENTS:
        problems.add(node.name, "its input is a current, stock neurons send spikes", "put a LIF before it")
    if not comes_by_synapses(graph, node):
        return
    rest = split_bias(graph.tensor(node, "bias"), node.bias_exp)[1]
    if rest.any() and not (drives_lifs_only(graph, node) and _rest_may_stay(graph, node, int(rest.max()))):
        what = f"its bias is no multiple of {UNIT}: synapses bring it, as it can be held back or is sent on"
        problems.add(
            f"{node.name}/bias",
            what,
            "compile with --backend lava-stock, which rounds these biases (round_synaptic_biases)",
        )


def _rest_may_stay(graph: Graph, node: Node, rest: int) -> bool:
    """Whether a halted token's neurons may receive a constant rest of the bias that is held back.

    So where nobody reads a halted token's membrane again, and the rest alone does not make it fire.
    """
    for_good = POLICIES[graph.halting].for_good or graph.time_steps == 1
    lifs = [graph.node(edge.dst) for edge in graph.consumers(node)]
    return for_good and all(isinstance(lif, FixedLIF) and _stays_silent(lif, rest) for lif in lifs)


def _stays_silent(lif: FixedLIF, bias: int) -> bool:
    threshold = lif.vth << ALIGN
    return ((threshold * (4096 - lif.dv)) >> 12) + bias <= threshold


def check_lif(graph: Graph, node: FixedLIF, problems: Problems) -> None:
    """Refuse spikes without a synapse, and a reset that stock LIFs do not have."""
    if node.reset == "subtract":
        what = "it is reset by subtraction, a stock LIF to 0"
        problems.add(node.name, what, "keep the network's own processes (convert --to lava)")
    edge = graph.inputs(node)["x"]
    driven = graph.node(edge.src).traits.makes_current
    if not driven and graph.source_type(edge).kind in EVENTS:
        problems.add(node.name, "its input are spikes without a synapse between", "put a layer between them")


def check_product(graph: Graph, node: Node, problems: Problems) -> None:
    """Refuse products, and sums of spikes, that drive no LIF."""
    if not drives_lifs_only(graph, node):
        problems.add(node.name, "its output goes on without a LIF", "put a LIF behind it")


def check_add(graph: Graph, node: Add, problems: Problems) -> None:
    """Refuse sums of unlike values."""
    kinds = {graph.source_type(graph.inputs(node)[port]).kind in EVENTS for port in ("a", "b")}
    if len(kinds) > 1:
        problems.add(node.name, "it adds spikes to a current, which differ in unit", "add like with like")


def check_mean(graph: Graph, node: FixedTokenMean, problems: Problems) -> None:
    """Refuse a mean that rounds."""
    if node.x_shift:
        what = "it rounds the sum of each token before it adds them up, stock neurons send all of a sum"
        problems.add(node.name, what, "use fewer tokens, or keep the network's own processes")


def check_score(graph: Graph, node: HaltingScore, problems: Problems) -> None:
    """Refuse scores of groups."""
    if node.groups:
        what = "tokens of a group have one score, which stock neurons would have to copy to each of them"
        problems.add(node.name, what, "compile without --token-groups, or keep the network's own processes")


def check_halting(graph: Graph, node: HaltAccumulate, problems: Problems) -> None:
    """Refuse policies that have no form here."""
    if node.mode not in HALTING_FORMS:
        what = f"mode {node.mode} needs the scores of a whole model step before the next one can start"
        able = ", ".join(HALTING_FORMS)
        problems.add(node.name, what, f"compile with --accumulate {able} or off: stock LIFs cannot wait")
    if node.closes is not None:
        what = f"all tokens halt from model step {node.closes + 1} on, and a stock LIF does not count steps"
        problems.add(node.name, what, "compile without --max-visits, or keep the network's own processes")


def accept(graph: Graph, node: Node, problems: Problems) -> None:
    """Accept a node that stock processes always express."""
