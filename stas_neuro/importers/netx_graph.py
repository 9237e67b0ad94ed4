"""Graphs of netx networks: integer programs from the start, with the same network in real numbers beside it.

A layer is a convolution or a matrix of whole weights, its neurons are Lava's fixed-point LIF (lava-nc 0.10.0,
proc/lif/models.py, PyLifModelBitAcc): u = decay(u, iDecay) + (a << 6), v = clip(decay(v, vDecay) + u +
(bias << 6)), spikes at v > (vThMant << 6), v = 0 where it fired. A layer of netx gets what the one before it
sent a step earlier; here it gets it in the same step, so that all layers of a step belong together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stas_neuro.errors import InputError
from stas_neuro.exporters.netx.origin import KEY, Origin
from stas_neuro.importers.netx_file import NetxNetwork, read_netx
from stas_neuro.importers.netx_layers import parts_of
from stas_neuro.importers.netx_walk import Walk
from stas_neuro.ir import (
    STATE_LIMIT,
    FixedLIF,
    FixedOutput,
    FixedReadout,
    Graph,
    Node,
    Preprocessing,
    Range,
    Shape,
    Stage,
    membrane_range,
)


@dataclass(frozen=True, kw_only=True)
class NetxOptions:
    """What a netx file does not say. Files that stas-neuro wrote do, and need none.

    Parameters
    ----------
    time_steps : int, optional
        T, steps of an inference. Default: tSample of the file's simulation, if it has one.
    input_shape : tuple of int, optional
        (C, H, W) of the input, where the file leaves it open: before a convolution with a stride.
    classes : sequence of str, optional
        Names of the outputs. Default: "0", "1", ...
    """

    time_steps: int | None = None
    input_shape: Shape | None = None
    classes: Sequence[str] | None = None


@dataclass(frozen=True)
class NetxGraphs:
    """The integer program of a file, the same network in real numbers, and notes on how they were made."""

    quantised: Graph
    real: Graph
    notes: tuple[str, ...]


def import_netx(path: Path, options: NetxOptions | None = None) -> NetxGraphs:
    """Read a netx file.

    Raises
    ------
    InputError
        When the file cannot be read (`read_netx`), T or the shape of the input is missing or does not fit, or
        a graph cannot express some layers: it names each of them.
    """
    network = read_netx(path)
    try:
        return graphs_of(network, options or NetxOptions())
    except InputError as error:
        raise InputError(f"{path}: {error.what}", error.remedy) from error


def graphs_of(network: NetxNetwork, options: NetxOptions) -> NetxGraphs:
    """Make the graphs of a network; as `import_netx`."""
    origin = None if network.origin is None else Origin.from_json(network.origin, KEY)
    steps = options.time_steps or (origin.time_steps if origin else network.steps)
    if steps is None:
        raise InputError("T, the steps of an inference, is not in the file", "give --time-steps")
    shape = options.input_shape or (origin.input_shape if origin else None)
    walk = Walk(parts_of(network.layers), steps, shape)
    classes = walk.run()
    if origin is None and options.time_steps is None:
        walk.notes.append(f"T is {steps}, tSample of the file's simulation")
    names = options.classes or (origin.classes if origin else map(str, range(classes)))
    quantised = Graph(
        stage=Stage.QUANTISED,
        time_steps=steps,
        nodes=tuple(walk.integers.nodes),
        edges=tuple(walk.integers.edges),
        tensors=walk.integers.tensors,
        classes=tuple(names),
        preprocessing=Preprocessing((0.0,) * walk.channels, (1.0,) * walk.channels),
    )
    real = replace(
        quantised,
        stage=Stage.FOLDED,
        nodes=tuple(walk.real.nodes),
        edges=tuple(walk.real.edges),
        tensors=walk.real.tensors,
    )
    quantised = _without_needless_clips(quantised)
    if origin is not None:
        quantised, real = _restored(quantised, origin), _restored(real, origin)
    return NetxGraphs(quantised, real, tuple(walk.notes))


def _without_needless_clips(graph: Graph) -> Graph:
    """Let membranes clip only where they can leave 24 bits."""

    def relaxed(node: Node) -> Node:
        if not isinstance(node, FixedLIF):
            return node
        plain = replace(node, clips=False)
        x = graph.source_type(graph.inputs(node)["x"])
        assert x.bound is not None
        reach = membrane_range(plain, Range(x.low, x.bound), graph.time_steps)
        return plain if reach.magnitude <= STATE_LIMIT else node

    return replace(graph, nodes=tuple(map(relaxed, graph.nodes)))


def _restored(graph: Graph, origin: Origin) -> Graph:
    """Give nodes the names and scopes that a file of stas-neuro keeps, and its readout its numbers."""
    if len(origin.names) != len(graph.nodes) or len(origin.scopes) != len(graph.nodes):
        what = f"{KEY} names {len(origin.names)} nodes, the layers of the file make {len(graph.nodes)}"
        raise InputError(what, f"remove {KEY!r} from the file, and give --time-steps")
    new = dict(zip((node.name for node in graph.nodes), origin.names, strict=True))

    def restored(node: Node, scope: str) -> Node:
        node = replace(node, name=new[node.name], scope=scope)
        if isinstance(node, FixedReadout):
            return replace(node, z_limit=origin.z_limit, y_shift=origin.y_shift)
        return replace(node, unit=origin.unit) if isinstance(node, FixedOutput) else node

    tensors = {}
    for key, tensor in graph.tensors.items():
        node, _, param = key.rpartition("/")
        tensors[f"{new[node]}/{param}"] = tensor
    return replace(
        graph,
        nodes=tuple(map(restored, graph.nodes, origin.scopes)),
        edges=tuple(replace(edge, src=new[edge.src], dst=new[edge.dst]) for edge in graph.edges),
        tensors=tensors,
        preprocessing=Preprocessing(origin.mean, origin.std),
    )
