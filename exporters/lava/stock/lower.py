"""From a quantised graph to a pipeline of stock processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stas_neuro.ir import (
    LIF,
    Add,
    BatchNorm,
    Conv2d,
    Gate,
    Graph,
    HaltAccumulate,
    HaltingScore,
    HeadSum,
    ImageScore,
    Input,
    Integrate,
    LateHaltAccumulate,
    Linear,
    Map,
    MaskedColumnSum,
    MaxPool,
    Node,
    Output,
    Phase,
    Problems,
    Readout,
    Slice,
    SpikeAnd,
    SpikeMatMul,
    SpikeMaxPool,
    Stage,
    SynapticCurrent,
    TokenMean,
    Tokens,
    op_of,
    per_op,
)

from .layers import Drive, Layers
from .lowering import Lowering
from .netlist import Pipeline, Signal
from .unsupported import (
    accept,
    check_add,
    check_halting,
    check_input,
    check_lif,
    check_mean,
    check_product,
    check_score,
    check_weights,
)


@dataclass(frozen=True, eq=False)
class StockNetwork:
    """A quantised network as stock processes.

    `spikes` says where the spikes of the graph's LIFs are found, `states` the outputs of the blocks (by the
    port of Readout that takes them) and `alive` the masks of blocks (by block) that not every token visits:
    what the host reads. `off_core` names what it computes of them.
    """

    graph: Graph
    pipeline: Pipeline
    spikes: Mapping[str, Signal]
    states: Mapping[str, Signal]
    alive: Mapping[int, Signal]
    off_core: tuple[str, ...]


def lower_stock(graph: Graph) -> StockNetwork:
    """Express a quantised graph with stock Lava processes only: Sparse, LIF, LIFReset, GradedVec, ProdNeuron.

    Every spike and every visit is that of the graph, `depth` Lava steps later. Readout and head stay with the
    host.

    Raises
    ------
    IRError
        With everything in the graph that stock processes cannot express, each with its remedy.
    """
    problems = Problems()
    _find_unsupported(graph, problems)
    problems.raise_if_any()
    lowering = Lowering(graph, problems, _drive_of)
    for node in graph.nodes:
        if node.phase != Phase.END:
            _form_of(node).lower(lowering, node)
    problems.raise_if_any()
    head = (node.name for node in graph.nodes if node.phase == Phase.END and node.traits.makes_current)
    return StockNetwork(
        graph=graph,
        pipeline=lowering.netlist.pipeline(graph.time_steps),
        spikes={node.name: lowering.values[node.name, "s"] for node in graph.of_type(LIF)},
        states=lowering.block_outputs(),
        alive=lowering.masks(),
        off_core=(graph.readout.name, *head),
    )


@dataclass(frozen=True)
class Form:
    """How stock processes express an operation.

    `check` adds what they cannot express of a node to the problems, `lower` makes its signals, and `drive`
    gives what neurons receive of it, where it makes synaptic input.
    """

    check: Callable[[Graph, Any, Problems], None]
    lower: Callable[[Lowering, Any], None]
    drive: Callable[..., Drive] | None = None


@dataclass(frozen=True)
class Refused:
    """Why stock processes have no form of an operation, and the remedy."""

    what: str
    remedy: str


class OnHost:
    """The host computes it, after the model steps."""


_FORMS: Mapping[type[Node], Form | Refused | OnHost] = per_op(
    "forms of stock Lava processes",
    {
        Input: Form(check_input, Lowering.input),
        Conv2d: Form(check_weights, Lowering.layer, Layers.conv2d),
        Linear: Form(check_weights, Lowering.layer, Layers.linear),
        SpikeMatMul: Form(check_product, Lowering.driver, Layers.matmul),
        MaskedColumnSum: Form(check_product, Lowering.driver, Layers.column_sum),
        HeadSum: Form(check_product, Lowering.driver, Layers.head_sum),
        LIF: Form(check_lif, Lowering.lif),
        SynapticCurrent: Refused(
            "its synaptic input outlasts a step",
            "keep the network's own processes (convert --to lava)",
        ),
        SpikeMaxPool: Form(accept, Lowering.pool),
        Tokens: Form(accept, Lowering.tokens),
        Map: Form(accept, Lowering.map),
        Slice: Form(accept, Lowering.slice),
        TokenMean: Form(check_mean, Lowering.token_mean),
        Add: Form(check_add, Lowering.add),
        Gate: Form(accept, Lowering.gate),
        SpikeAnd: Form(accept, Lowering.spike_and),
        HaltingScore: Form(check_score, Lowering.score),
        HaltAccumulate: Form(check_halting, Lowering.halt),
        LateHaltAccumulate: Refused(
            "its late decisions (mode raster or time) need the scores of a whole model step",
            "compile with --accumulate block, rectangular or off, and the schedule pipelined",
        ),
        MaxPool: Refused(
            "it takes the largest of its inputs, which stock neurons add up",
            "pool spikes, behind the LIF, or keep the network's own processes (convert --to lava)",
        ),
        ImageScore: Refused(
            "it needs the sums of all classes before the next model step can start",
            "compile with --halting or --accumulate block or rectangular, or without halting",
        ),
        Integrate: Refused(
            "it integrates over steps before the model steps, and the stream of model steps has no room for "
            "them",
            "use a stem that spikes once, or in each model step",
        ),
        BatchNorm: Refused("it is normalised apart from its layer", "fold the graph"),
        Readout: OnHost(),
        Output: OnHost(),
    },
)
for _op, _form in _FORMS.items():
    if isinstance(_form, Form) and _op.TRAITS.makes_current != (_form.drive is not None):
        raise TypeError(
            f"forms of stock Lava processes: {_op.__name__} has to say what neurons receive of it"
        )


def _form_of(node: Node) -> Form:
    form = _FORMS[op_of(node)]
    assert isinstance(form, Form)  # else it was refused, or comes after the model steps
    return form


def _drive_of(node: Node) -> Callable[..., Drive]:
    drive = _form_of(node).drive
    assert drive is not None
    return drive


def _find_unsupported(graph: Graph, problems: Problems) -> None:
    """Add a problem for everything in `graph` that stock processes cannot express."""
    if graph.stage != Stage.QUANTISED:
        problems.add(
            "graph",
            f"it is {graph.stage}",
            "compile with --bits and run with --arithmetic fixed: stock processes compute in integers",
        )
        return
    for node in graph.nodes:
        form = _FORMS[op_of(node)]
        if isinstance(form, Refused):
            problems.add(node.name, form.what, form.remedy)
        elif isinstance(form, Form) and node.phase != Phase.END:
            form.check(graph, node, problems)
