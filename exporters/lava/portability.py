"""Where the processes of an exported network would run on Loihi 2, as far as the public record tells.

Lava's models for neurocores are in its extension for Loihi, which members of Intel's research community
(INRC) get. What is public is that some exist: release notes, and tutorials that were executed on the chip.
Nothing here was run on a chip by us. docs/portability.md has the table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from stas_neuro.exporters.lava.runnable import check_stage
from stas_neuro.ir import (
    LIF,
    Add,
    BatchNorm,
    Conv2d,
    FixedInput,
    FixedTokenMean,
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
    Readout,
    Slice,
    SpikeAnd,
    SpikeMatMul,
    SpikeMaxPool,
    SynapticCurrent,
    TokenMean,
    Tokens,
    op_of,
    per_op,
)

if TYPE_CHECKING:
    from stas_neuro.exporters.lava.stock.netlist import Pipeline

RunsOn = Literal["neurocore", "microcode", "embedded CPU", "host", "wiring", "not known"]
RUNS_ON: Mapping[RunsOn, str] = {
    "neurocore": "a neurocore model of a stock process that computes the same is on public record",
    "microcode": "a neuron program of its own would have to be written; none is public",
    "embedded CPU": "a processor beside the cores",
    "host": "the computer that the chip is attached to, by way of the processors beside the cores",
    "wiring": "nothing: only where axons lead",
    "not known": "the public record does not tell",
}
"""What each place means."""

SOURCES: Mapping[str, str] = {
    "readme": "lava-nc 0.10.0, README.md: the Lava extension for Loihi is for members of the INRC",
    "runconfig": (
        "lava-nc 0.10.0, lava/magma/core/run_configs.py, Loihi2HwCfg: prefers neurocore models, then C "
        "models on embedded processors, and takes the Python model where there is neither"
    ),
    "release": (
        "lava-nc, RELEASE.md at tag v0.9.0 (notes of v0.4.0): LIF, Sigma-Delta and Dense execute on "
        "neurocores with the extension; neurons are programmed in assembly, embedded processors in C; "
        "spikes come and go through embedded processes"
    ),
    "lif": (
        "lava-nc 0.10.0, lava/proc/lif/models.py, PyLifModelBitAcc: bit-accurate with Loihi's LIF, which "
        "decays and adds its bias in every step"
    ),
    "dot": (
        "lava-nc 0.10.0, tutorials/lava_va/Tutorial01-Fixed_point_dot_product.ipynb, executed on Loihi 2: "
        "Dense with 24 message bits, GradedVec"
    ),
    "product": (
        "lava-nc 0.10.0, tutorials/lava_va/Tutorial02-Fixed_point_elementwise_product.ipynb, executed on "
        "Loihi 2: ProdNeuron"
    ),
    "motifs": (
        "lava-nc 0.10.0, tutorials/lava_va/Tutorial04-Creating_network_motifs.ipynb, executed on Loihi 2: "
        "Sparse, also recurrent"
    ),
    "io": (
        "lava-nc 0.10.0, lava/networks/gradedvecnetwork.py: on Loihi 2, InputVec and OutputVec reach the "
        "host through adapters of lava.proc.embedded_io, which is in the extension"
    ),
    "pilotnet": (
        "lava-dl 0.6.0, tutorials/lava/lib/dl/netx/pilotnet_snn/benchmark.ipynb, executed on Loihi 2: Conv, "
        "Dense and, as images are told apart (reset_interval), LIFReset, on 74 cores"
    ),
    "conv": (
        "lava-nc 0.10.0, lava/proc/conv/models.py: the fixed-point model takes weight_exp and "
        "num_weight_bits and reads neither"
    ),
    "brief": (
        "Intel Labs, Taking Neuromorphic Computing to the Next Level with Loihi 2, technology brief, 2021: "
        "neurons are programs, spikes carry integers of up to 32 bits, six embedded processors"
    ),
    "learning": (
        "J. Finkbeiner, E. Neftci, arXiv 2410.08711, 2024: attention on Loihi 2 by learning keys and values "
        "into synapses, not by a product of spikes"
    ),
}
"""What the statements rest on."""


@dataclass(frozen=True)
class Claim:
    """What is known of one kind of process; `sources` are keys of `SOURCES`."""

    runs_on: RunsOn
    statement: str
    sources: tuple[str, ...]


def _kind_name(op: type[Node], variant: str) -> str:
    return f"{op.__name__} {variant}".rstrip()


_CLAIMS: Mapping[type[Node], Mapping[str, Claim]] = per_op(
    "where processes run on Loihi 2",
    {
        Input: {
            "": Claim("host", "pixels are sent as graded spikes", ("io", "release")),
            "as bias currents": Claim(
                "embedded CPU", "biases of neurons are written before each image", ("release",)
            ),
        },
        Conv2d: {
            "": Claim(
                "neurocore",
                "stock Conv, a step later; whether its neurocore model scales by weight_exp is not known, "
                "the CPU's does not",
                ("pilotnet", "conv"),
            ),
            "off the cores": Claim("embedded CPU", "with --input-encoding bias", ("release", "brief")),
        },
        Linear: {
            "": Claim(
                "neurocore",
                "stock Dense, a step later, one for each power of two of its weights; an alive spike has to "
                "carry a bias that halted tokens do not get",
                ("release", "dot"),
            ),
        },
        LIF: {
            "": Claim("neurocore", "stock LIF, the same arithmetic", ("release", "lif")),
            "that waits": Claim(
                "microcode",
                "stock LIF has the same arithmetic, but leaks in every hardware step: between the model "
                "steps of a raster schedule the neuron has to stand still",
                ("lif", "brief"),
            ),
            "that subtracts": Claim(
                "microcode",
                "stock LIF is set to 0 by a spike, not lowered by its threshold",
                ("lif", "brief"),
            ),
        },
        SynapticCurrent: {
            "": Claim("neurocore", "the current u of a stock LIF, the same arithmetic", ("release", "lif")),
        },
        SpikeMaxPool: {
            "": Claim(
                "neurocore",
                "as stock Sparse onto a stock LIF that fires for any spike, a step later",
                ("motifs", "lif"),
            ),
        },
        MaxPool: {
            "": Claim(
                "microcode", "the largest of the values that reach a neuron, not their sum", ("brief",)
            ),
        },
        Integrate: {
            "": Claim("microcode", "a sum or maximum that is kept over the steps of the stem", ("brief",)),
        },
        Tokens: {
            "": Claim("wiring", "tokens are neurons in another order", ()),
        },
        Map: {
            "": Claim("wiring", "a map is neurons in another order", ()),
        },
        Slice: {
            "": Claim("wiring", "some of the neurons", ()),
        },
        TokenMean: {
            "": Claim(
                "neurocore",
                "stock Sparse onto the neurons behind it, which add up what all tokens bring; 1/N is in "
                "weights or thresholds",
                ("motifs", "lif"),
            ),
            "that rounds": Claim(
                "microcode", "shifts the sum that reaches each token before it is sent on", ("brief",)
            ),
        },
        Add: {
            "": Claim(
                "neurocore", "stock GradedVec, which sends the sum of what reaches it as an integer", ("dot",)
            ),
        },
        Gate: {
            "": Claim("neurocore", "stock ProdNeuron, value times mask", ("product",)),
        },
        SpikeAnd: {
            "": Claim(
                "neurocore",
                "as stock Sparse onto a stock LIF that fires for both spikes, or, with a weight of -1, for "
                "one alone; a step later",
                ("motifs", "lif"),
            ),
        },
        SpikeMatMul: {
            "": Claim(
                "microcode",
                "two products of spikes; elementwise ones are stock ProdNeurons, whose number is the "
                "product of tokens, tokens and channels",
                ("product", "brief", "learning"),
            ),
        },
        MaskedColumnSum: {
            "": Claim(
                "microcode",
                "as products of stock ProdNeurons, one for each token and channel",
                ("product", "brief"),
            ),
        },
        HeadSum: {
            "": Claim("neurocore", "as stock Sparse with weights of 1, a step later", ("motifs",)),
        },
        HaltingScore: {
            "": Claim(
                "not known",
                "looks up a table: no stock neuron does, and whether a neuron program can is not on record",
                ("brief",),
            ),
        },
        HaltAccumulate: {
            "": Claim("microcode", "adds scores up and compares; no stock neuron does both", ("brief",)),
        },
        ImageScore: {
            "": Claim(
                "microcode",
                "synapses add up the classes as in a stock Dense; a program compares the two largest sums",
                ("brief",),
            ),
        },
        LateHaltAccumulate: {
            "": Claim("microcode", "keeps scores, adds up those that have arrived, and compares", ("brief",)),
        },
        Readout: {
            "": Claim("microcode", "sums that are kept over model steps", ("brief",)),
            "that weighs": Claim("microcode", "products of values and scores, and their sums", ("brief",)),
            "that divides": Claim(
                "embedded CPU", "no division on the cores is on record", ("release", "brief")
            ),
        },
        Output: {
            "": Claim("host", "logits are read from the chip", ("io", "release")),
        },
    },
    without=(BatchNorm,),  # which is folded before
)
"""Of each operation: what is known of its process, and of the variants that differ, by name."""
OWN: Mapping[str, Claim] = {
    _kind_name(op, variant): claim for op, claims in _CLAIMS.items() for variant, claim in claims.items()
}
"""Processes of the network's own lowering, by op and what of it matters."""
STOCK: Mapping[str, Claim] = {
    "Source": Claim("host", "a stock RingBuffer, through an adapter of the extension", ("io",)),
    "Sink": Claim("host", "a stock RingBuffer, through an adapter of the extension", ("io",)),
    "Dense": Claim("neurocore", "stock", ("release", "dot")),
    "Sparse": Claim("neurocore", "stock", ("motifs",)),
    "LIF": Claim("neurocore", "stock", ("release", "lif")),
    "LIFReset": Claim(
        "neurocore", "stock; that its neurocore model resets in every step is not on record", ("pilotnet",)
    ),
    "GradedVec": Claim("neurocore", "stock", ("dot",)),
    "ProdNeuron": Claim("neurocore", "stock", ("product",)),
}
"""Stock processes of Lava, as the stock lowering uses them."""
NOTES = (
    "A neurocore model on record is one in the Lava extension for Loihi, which members of the INRC get; no "
    "model itself is public.",
    "Lava's run configuration for Loihi 2 takes the Python model on the host where it finds no other: a "
    "process without a model for the chip does not fail, it silently stays off the chip.",
)
"""What holds for every row; their sources are readme and runconfig."""


@dataclass(frozen=True)
class Portability:
    """Where one process would run.

    Parameters
    ----------
    process : str
        Its name.
    kind : str
        Key of `OWN` or `STOCK`.
    lowering : str
        own or stock.
    runs_on : str
        Key of `RUNS_ON`.
    statement : str
    sources : tuple of str
        Keys of `SOURCES`.
    """

    process: str
    kind: str
    lowering: Literal["own", "stock"]
    runs_on: RunsOn
    statement: str
    sources: tuple[str, ...]


def portability(graph: Graph) -> tuple[Portability, ...]:
    """State where the process of each node of a graph would run, in order.

    It is about integers: of a graph in floating point it says what its integer program would need. Raises
    InputError where the graph still has BatchNorm nodes.
    """
    check_stage(graph)
    return tuple(
        _row(node.name, _kind_name(op_of(node), _variant(graph, node)), "own") for node in graph.nodes
    )


def stock_portability(pipeline: Pipeline) -> tuple[Portability, ...]:
    """State where each process of the stock lowering would run: groups of neurons, then synapses."""
    rows = []
    for group in pipeline.groups:
        kind = {"Graded": "GradedVec", "Product": "ProdNeuron"}.get(type(group.neuron).__name__, "Source")
        if (reset := getattr(group.neuron, "reset", None)) is not None:
            kind = "LIF" if reset == "never" else "LIFReset"
        rows.append(_row(group.name, kind, "stock"))
    rows += [_row(f"{each.src} to {each.dst}.{each.port}", "Sparse", "stock") for each in pipeline.synapses]
    return tuple(rows)


def _variant(graph: Graph, node: Node) -> str:
    """Name the variant of its operation that a node is; empty for the plain one."""
    if isinstance(node, FixedInput) and node.encoding == "bias":
        return "as bias currents"
    if isinstance(node, Conv2d) and node.off_core:
        return "off the cores"
    if isinstance(node, LIF) and node.reset == "subtract":
        return "that subtracts"
    if isinstance(node, LIF) and any(edge.delay for edge in graph.edges):
        return "that waits"
    if isinstance(node, FixedTokenMean) and node.x_shift:
        return "that rounds"
    if isinstance(node, Readout):
        divides = node.normalise or node.mode == "rate"
        weighs = any(port.startswith(("alive", "p")) for port in graph.inputs(node))
        return "that divides" if divides else "that weighs" if weighs else ""
    return ""


def _row(process: str, kind: str, lowering: Literal["own", "stock"]) -> Portability:
    claim = (OWN if lowering == "own" else STOCK)[kind]
    return Portability(process, kind, lowering, claim.runs_on, claim.statement, claim.sources)


def kinds_of(rows: Sequence[Portability]) -> list[tuple[Portability, int]]:
    """Give the first row of each kind, and how many processes are of that kind."""
    firsts = {(row.lowering, row.kind): row for row in reversed(rows)}
    numbers = Counter((row.lowering, row.kind) for row in rows)
    return [(firsts[kind], number) for kind, number in numbers.items()]


def portability_text(rows: Sequence[Portability]) -> str:
    """Write the statement in Markdown: kinds of processes with their number, notes and sources."""
    lines = ["| process | number | runs on | | sources |", "|---|---|---|---|---|"]
    for row, number in kinds_of(rows):
        sources = ", ".join(row.sources)
        lines.append(f"| {row.kind} | {number} | {row.runs_on} | {row.statement} | {sources} |")
    lines += ["", *(f"{note}\n" for note in NOTES)]
    lines += [f"- {key}: {SOURCES[key]}" for key in used_sources(rows)]
    return "\n".join(lines) + "\n"


def used_sources(rows: Iterable[Portability]) -> list[str]:
    """List the sources that rows and the notes on them rest on, in the order of `SOURCES`."""
    used = {source for row in rows for source in row.sources} | {"readme", "runconfig"}
    return [key for key in SOURCES if key in used]
