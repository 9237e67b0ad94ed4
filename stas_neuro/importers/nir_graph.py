"""Graphs of NIR networks: a model step is Euler's with dt, neurons fire at v > threshold and reset to 0.

The logits are the mean over the steps of what the last layer gives: of its spikes, or, where an Affine or
Linear stands behind the last neurons, of its values; the graph applies that layer to the mean of the spikes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from stas_neuro.errors import InputError
from stas_neuro.exporters.nir.origin import KEY, Origin, OriginNode
from stas_neuro.importers.nir_draft import Draft, name_nodes
from stas_neuro.importers.nir_file import NirNetwork, read_network
from stas_neuro.importers.nir_time import need_dt
from stas_neuro.importers.nir_walk import LAYERS, Walk
from stas_neuro.ir import LIF, Conv2d, Graph, Input, Node, Phase, Preprocessing, Readout, Stage

_ROUNDING = 1e-12
"""Relative difference of tau / dt and the time constant in steps that it was made of."""
SUBTRACT = (
    "NIR has no reset by subtraction, and snnTorch writes one (reset_mechanism='subtract') exactly like a "
    "reset to zero: neurons reset to zero here; if the model subtracts, its spikes differ"
)


@dataclass(frozen=True, kw_only=True)
class NirOptions:
    """What a NIR file does not say. Files that stas-neuro wrote do, and need none.

    Parameters
    ----------
    dt : float, optional
        The time step, in the unit of the file's time constants.
    time_steps : int, optional
        T, model steps of an inference.
    static : bool, optional
        The input is one image, which is held for all steps, instead of a frame a step. Default: a frame.
    fire : ">" or ">="
        When neurons fire. NIR says >; some libraries (SpikingJelly, sinabs) compute >=.
    classes : sequence of str, optional
        Names of the classes. Default: "0", "1", ...
    mean, std : sequence of float, optional
        Normalisation of the image, a number for each channel. Default: 0 and 1.
    """

    dt: float | None = None
    time_steps: int | None = None
    static: bool | None = None
    fire: Literal[">", ">="] = ">"
    classes: Sequence[str] | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None


def read_nir(path: Path, options: NirOptions | None = None) -> tuple[Graph, tuple[str, ...]]:
    """Read a NIR file.

    Parameters
    ----------
    path : Path
    options : NirOptions, optional

    Returns
    -------
    Graph
        Folded.
    tuple of str
        Notes on how it was made.

    Raises
    ------
    InputError
        When the file cannot be read (`read_network`), dt or T is missing or does not fit, or the graph cannot
        express some nodes: it names each of them.
    """
    network = read_network(path)
    try:
        return graph_of(network, options or NirOptions())
    except InputError as error:
        raise InputError(f"{path}: {error.what}", error.remedy) from error


def graph_of(network: NirNetwork, options: NirOptions) -> tuple[Graph, tuple[str, ...]]:
    """Make the graph of a network; as `read_nir`."""
    text = network.metadata.get(KEY)
    origin = None if text is None else Origin.from_json(text, f"metadata {KEY}")
    taus = [
        node.fields[name]
        for node in network.nodes.values()
        for name in ("tau", "tau_mem", "tau_syn")
        if name in node.fields
    ]
    dt = need_dt(origin.dt if options.dt is None and origin else options.dt, taus)
    steps = origin.time_steps if options.time_steps is None and origin else options.time_steps
    if steps is None:
        raise InputError("T, the model steps of an inference, is not in the file", "give --time-steps")
    walk = _walk(network, dt, options, origin)
    walk.time_steps = steps
    classes = walk.run(*_readout_of(origin))
    draft = walk.draft
    if origin is None:
        draft.note(SUBTRACT)
    else:
        _restore(draft, origin, dt)
    channels = next(node.shape[0] for node in draft.nodes.values() if isinstance(node, Input))
    graph = Graph(
        stage=Stage.FOLDED,
        time_steps=steps,
        nodes=tuple(draft.nodes.values()),
        edges=tuple(draft.edges),
        tensors=draft.tensors,
        classes=tuple(options.classes or (origin.classes if origin else map(str, range(classes)))),
        preprocessing=Preprocessing(
            tuple(map(float, options.mean or (origin.mean if origin else (0.0,) * channels))),
            tuple(map(float, options.std or (origin.std if origin else (1.0,) * channels))),
        ),
    )
    return graph, tuple(draft.notes)


def _walk(network: NirNetwork, dt: float, options: NirOptions, origin: Origin | None) -> Walk:
    names = name_nodes(network.nodes)
    if origin is None:
        return Walk(network, names, dt, options.fire, bool(options.static), find_head=True)
    phases = {node.name: node.phase for node in origin.nodes}
    head = [name for name, node in network.nodes.items() if node.kind in LAYERS and phases.get(name) == "end"]
    static = any(phases.get(name) == "once" for name, node in network.nodes.items() if node.kind == "Input")
    if options.static not in (None, static):
        what = f"the file says that {'one image is' if static else 'a frame a step is'} its input"
        raise InputError(what, "leave out the axes")
    return Walk(network, names, dt, options.fire, static, find_head=False, head=head[0] if head else None)


def _readout_of(origin: Origin | None) -> tuple[str, str, int]:
    """Return the name of the readout, its scope, and the blocks that it counts."""
    readouts = [node for node in origin.nodes if node.op == Readout.__name__] if origin else []
    if origin is None or not readouts:
        return "readout", "head", 1
    return readouts[0].name, readouts[0].scope, origin.blocks


def _restore(draft: Draft, origin: Origin, dt: float) -> None:
    """Give nodes what the file's origin says of them, in its order, where NIR says nothing else."""
    known = {node.name: node for node in origin.nodes}
    position = {name: index for index, name in enumerate(known)}
    for name, node in draft.nodes.items():
        if name in known:
            draft.nodes[name] = _as_in(known[name], node, draft, dt)
    draft.nodes = dict(sorted(draft.nodes.items(), key=lambda item: position.get(item[0], len(position))))


def _as_in(origin: OriginNode, node: Node, draft: Draft, dt: float) -> Node:
    node = replace(node, phase=Phase(origin.phase), scope=origin.scope)
    if (
        isinstance(node, LIF)
        and origin.tau is not None
        and abs(origin.tau - node.tau) <= node.tau * _ROUNDING
    ):
        return replace(node, tau=origin.tau)
    bias = f"{node.name}/bias"
    if isinstance(node, Conv2d) and origin.bias is False and not draft.tensors[bias].any():
        del draft.tensors[bias]  # NIR has no convolution without one
        return replace(node, bias=False)
    return node
