"""What stock processes cannot express, all of it found in one go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stas_neuro.ir import (
    ALIGN,
    EVENTS,
    LIF,
    Add,
    BatchNorm,
    Conv2d,
    FixedConv2d,
    FixedInput,
    FixedLIF,
    FixedLinear,
    Gate,
    Graph,
    HaltAccumulate,
    HaltingScore,
    Input,
    Integrate,
    Linear,
    MaskedColumnSum,
    Node,
    Output,
    Phase,
    Problems,
    Readout,
    SpikeMatMul,
    SpikeMaxPool,
    Stage,
    Tokens,
    op_of,
    per_op,
)

from .units import UNIT, comes_by_synapses, drives_lifs_only, split_bias


def find_unsupported(graph: Graph, problems: Problems) -> None:
    """Add a problem for everything in `graph` that stock processes cannot express."""
    if graph.stage != Stage.QUANTISED:
        problems.add(
            "graph",
            f"it is {graph.stage}",
            "compile with --bits and run with --arithmetic fixed: stock processes compute in integers",
        )
        return
    for node in graph.nodes:
        if node.phase != Phase.END:
            _CHECKS[op_of(node)](graph, node, problems)


def _input(graph: Graph, node: FixedInput, problems: Problems) -> None:
    if node.encoding == "bias":
        what = "the image enters as bias currents, which a stock LIF takes once and for all images"
        problems.add(node.name, what, "compile with --input-encoding graded")


def _integrate(graph: Graph, node: Integrate, problems: Problems) -> None:
    what = (
        "it integrates over steps before the model steps, and the stream of model steps has no room for them"
    )
    problems.add(node.name, what, "use a stem that spikes once, or in each model step")


def _weights(graph: Graph, node: FixedConv2d | FixedLinear, problems: Problems) -> None:
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
    for_good = graph.accumulators[0].mode == "rectangular" or graph.time_steps == 1
    lifs = [graph.node(edge.dst) for edge in graph.consumers(node)]
    return for_good and all(isinstance(lif, FixedLIF) and _stays_silent(lif, rest) for lif in lifs)


def _stays_silent(lif: FixedLIF, bias: int) -> bool:
    threshold = lif.vth << ALIGN
    return ((threshold * (4096 - lif.dv)) >> 12) + bias <= threshold


def _lif(graph: Graph, node: FixedLIF, problems: Problems) -> None:
    edge = graph.inputs(node)["x"]
    driven = graph.node(edge.src).traits.makes_current
    if not driven and graph.source_type(edge).kind in EVENTS:
        problems.add(node.name, "its input are spikes without a synapse between", "put a layer between them")


def _product(graph: Graph, node: Node, problems: Problems) -> None:
    if not drives_lifs_only(graph, node):
        problems.add(node.name, "its output goes on without a LIF", "put a LIF behind it")


def _add(graph: Graph, node: Add, problems: Problems) -> None:
    kinds = {graph.source_type(graph.inputs(node)[port]).kind in EVENTS for port in ("a", "b")}
    if len(kinds) > 1:
        problems.add(node.name, "it adds spikes to a current, which differ in unit", "add like with like")


def _halt(graph: Graph, node: HaltAccumulate, problems: Problems) -> None:
    if node.mode not in ("block", "rectangular"):
        what = f"mode {node.mode} needs the scores of a whole model step before the next one can start"
        problems.add(
            node.name, what, "compile with --accumulate block, rectangular or off: stock LIFs cannot wait"
        )


def _anything(graph: Graph, node: Node, problems: Problems) -> None:
    """Accept a node that stock processes always express, or that the host computes."""


_CHECKS: Mapping[type[Node], Callable[[Graph, Any, Problems], None]] = per_op(
    "what stock Lava processes express",
    {
        Input: _input,
        Integrate: _integrate,
        Conv2d: _weights,
        Linear: _weights,
        LIF: _lif,
        SpikeMatMul: _product,
        MaskedColumnSum: _product,
        Add: _add,
        HaltAccumulate: _halt,
        SpikeMaxPool: _anything,
        Tokens: _anything,
        Gate: _anything,
        HaltingScore: _anything,
        Readout: _anything,
        Output: _anything,
    },
    without=(BatchNorm,),
)
