"""Writes an integer program as a netx file (HDF5), which `lava.lib.dl.netx.hdf5.Network` reads."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from stas_neuro.exporters.netx.forms import effective, head_bias, is_covering, mantissas, problems_of
from stas_neuro.exporters.netx.origin import KEY, Origin
from stas_neuro.extras import needs
from stas_neuro.files import Output
from stas_neuro.ir import (
    VTH_LIMIT,
    FixedConv2d,
    FixedInput,
    FixedLIF,
    FixedLinear,
    FixedSynapticCurrent,
    Graph,
    Phase,
    Problem,
    Stage,
)

_MAGIC = b"\x89HDF\r\n\x1a\n"
Fields = dict[str, Any]


def refusals(graph: Graph) -> list[Problem]:
    """Return a problem for each node that netx cannot express, with place, reason and remedy."""
    if graph.stage != Stage.QUANTISED:
        what = "is a network of real numbers: netx describes integers"
        return [Problem("graph", what, "convert with --arithmetic fixed")]
    return problems_of(graph)


def netx_output(path: Path, *, force: bool) -> Output:
    """Return the file to write; `force` replaces a netx file of stas-neuro, and no other."""
    return Output(path=path, is_earlier=_is_netx, otherwise="is no netx file of stas-neuro", force=force)


def _is_netx(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:  # names of datasets are never compressed
        content = stream.read()
    return content.startswith(_MAGIC) and KEY.encode() in content and b"layer" in content


def write_netx(graph: Graph, path: Path, *, force: bool = False) -> None:
    """Write a quantised graph without `refusals`.

    Raises
    ------
    InputError
        When `path` exists or cannot be written, or h5py is missing.
    """
    with needs("netx"):
        import h5py
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        text = h5py.string_dtype()
        file.create_dataset(KEY, data=Origin.of(graph).to_json(), dtype=text)
        for index, fields in enumerate(_layers(graph)):
            for name, value in fields.items():
                kind = text if isinstance(value, str) else None
                file.create_dataset(f"layer/{index}/{name}", data=value, dtype=kind)
    netx_output(path, force=force).write(stream.getvalue())


def _layers(graph: Graph) -> Iterator[Fields]:
    """Give the fields of each layer, in order."""
    image = graph.input
    assert isinstance(image, FixedInput)
    if image.encoding == "spikes":
        yield {"type": "input", "shape": np.array(image.shape)}
    for lif in graph.of_type(FixedLIF):
        current, layer = _drive(graph, lif)
        if isinstance(layer, FixedLinear) or is_covering(graph, layer):
            shape = graph.source_type(graph.inputs(layer)["x"]).shape
            if len(shape) == 3:
                yield {"type": "flatten", "shape": np.array([int(np.prod(shape)), 1, 1])}
            yield _dense(graph, layer) | _neurons(graph, lif, current, layer)
        elif layer.off_core:
            # What it was trained on is not known: its biases are the image.
            own = {"type": "input", "shape": np.array(image.shape), "weight": 1, "bias": 0}
            yield own | _neuron(lif, current)
        else:
            yield _conv(graph, layer) | _neurons(graph, lif, current, layer)
    for head in graph.of_type(FixedLinear):
        if head.phase == Phase.END:
            yield _head(graph, head)


def _drive(graph: Graph, lif: FixedLIF) -> tuple[FixedSynapticCurrent | None, Any]:
    """Give the current and the layer that drive neurons."""
    current, node = None, graph.node(graph.inputs(lif)["x"].src)
    while not isinstance(node, FixedConv2d | FixedLinear):
        current = node if isinstance(node, FixedSynapticCurrent) else current
        node = graph.node(graph.inputs(node)["x"].src)
    return current, node


def _dense(graph: Graph, layer: FixedConv2d | FixedLinear) -> Fields:
    weight = _weights(graph, layer)
    matrix = weight.reshape(len(weight), -1)
    out, width = matrix.shape
    return {
        "type": "dense",
        "shape": np.array([out]),
        "inFeatures": width,
        "outFeatures": out,
        "weight": matrix,
    }


def _head(graph: Graph, layer: FixedLinear) -> Fields:
    """Give a layer whose neurons add up and never fire; who runs it reads their membranes."""
    bias = head_bias(graph, layer)
    held = {} if bias is None or not bias.any() else {"bias": bias.astype(np.int32)}
    return _dense(graph, layer) | held | _fields(i_decay=4096, v_decay=0, threshold=VTH_LIMIT)


def _conv(graph: Graph, layer: FixedConv2d) -> Fields:
    kernel, stride, padding, dilation = map(np.array, layer.sides)
    return {
        "type": "conv",
        "shape": np.array(graph.types[layer.name, "y"].shape),
        "inChannels": layer.in_channels,
        "outChannels": layer.out_channels,
        "kernelSize": kernel,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": layer.groups,
        "weight": _weights(graph, layer),
    }


def _weights(graph: Graph, layer: FixedConv2d | FixedLinear) -> Any:
    weight = effective(graph, layer)
    assert weight is not None  # it is refused
    return weight.astype(np.int32)


def _neurons(graph: Graph, lif: FixedLIF, current: FixedSynapticCurrent | None, layer: Any) -> Fields:
    """Give the neurons of a layer, and their bias where they have one."""
    source = layer if current is None else current
    bias = mantissas(graph, source) if source.bias else None
    held = {} if bias is None or not bias.any() else {"bias": bias.astype(np.int32)}
    return held | _neuron(lif, current)


def _neuron(lif: FixedLIF, current: FixedSynapticCurrent | None) -> Fields:
    i_decay = 4096 if current is None else current.du + 1
    return _fields(i_decay=i_decay, v_decay=lif.dv, threshold=lif.vth)


def _fields(*, i_decay: int, v_decay: int, threshold: int) -> Fields:
    return {
        "neuron/type": "CUBA",
        "neuron/iDecay": i_decay,
        "neuron/vDecay": v_decay,
        "neuron/vThMant": threshold,
        "neuron/refDelay": 1,
        "neuron/gradedSpike": False,
    }
