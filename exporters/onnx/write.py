"""Writes a graph as an ONNX file."""

from __future__ import annotations

from pathlib import Path

from stas_neuro.exporters.onnx.origin import KEY, Float, Origin
from stas_neuro.extras import needs
from stas_neuro.files import Output
from stas_neuro.ir import Graph

_BEGINNING = b"\x08\x08\x12\x0astas-neuro"
"""What a file of `model.make_model` begins with: version 8 of ONNX's IR, and the producer."""


def onnx_output(path: Path, *, force: bool) -> Output:
    """Return the file to write; `force` replaces an ONNX file of stas-neuro, and no other."""
    return Output(path=path, is_earlier=_is_ours, otherwise="is no ONNX file of stas-neuro", force=force)


def _is_ours(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(len(_BEGINNING)) == _BEGINNING


def write_onnx(
    graph: Graph, path: Path, *, dtype: Float = "float64", spikes: bool = True, force: bool = False
) -> None:
    """Write a graph without `refusals`.

    Parameters
    ----------
    graph : Graph
    path : Path
    dtype : "float32" or "float64"
        What a float graph is computed in; weights keep theirs. A quantised graph is computed in integers.
    spikes : bool
        Give the spikes of every neuron beside the logits.
    force : bool
        Replace an ONNX file of stas-neuro.

    Raises
    ------
    InputError
        When `path` exists or cannot be written, or the package onnx is missing.
    """
    with needs("onnx"):
        from onnx import helper

        from stas_neuro.exporters.onnx.model import make_model
    model = make_model(graph, dtype=dtype, spikes=spikes)
    helper.set_model_props(model, {KEY: Origin.of(graph, dtype, spikes).to_json()})
    onnx_output(path, force=force).write(model.SerializeToString(deterministic=True))
