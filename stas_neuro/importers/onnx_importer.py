"""The importer of ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stas_neuro.errors import InputError
from stas_neuro.exporters.onnx.origin import KEY
from stas_neuro.importers.base import Imported, ImportOptions, is_onnx, refuse_unused
from stas_neuro.importers.onnx_file import read_model
from stas_neuro.importers.onnx_graph import graph_of, is_ours
from stas_neuro.ir import Graph, Stage


class OnnxFile:
    """Imports ONNX files that stas-neuro wrote."""

    summary = "an ONNX file that stas-neuro wrote (.onnx)"

    def accepts(self, source: object) -> bool:
        """Accept a path that ends in .onnx."""
        return is_onnx(source)

    def read(self, source: Any, options: ImportOptions) -> Imported:
        """Convert a file to the graph that it was written from.

        Raises
        ------
        InputError
            As `read_onnx`; for an integer program; for any option.
        """
        refuse_unused(options, (), "an ONNX file of stas-neuro")
        graph = read_onnx(Path(source))
        if graph.stage == Stage.QUANTISED:
            what = f"{source}: the graph is quantised already"
            raise InputError(what, "give the float network, or use read_onnx")
        return Imported(graph)


def read_onnx(path: Path) -> Graph:
    """Read an ONNX file of stas-neuro to the graph that it was written from, floats or integers.

    Raises
    ------
    InputError
        As `read_model` and `graph_of`; for a file that stas-neuro did not write.
    """
    model = read_model(path)
    if not is_ours(model):
        what = f"{path}: was not written by stas-neuro (it has no metadata {KEY})"
        raise InputError(what, "give the model itself, as file.py:function or a NIR file")
    try:
        return graph_of(model)
    except InputError as error:
        raise InputError(f"{path}: {error.what}", error.remedy) from error
