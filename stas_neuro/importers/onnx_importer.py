"""The importer of ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stas_neuro.errors import InputError
from stas_neuro.exporters.onnx.origin import KEY
from stas_neuro.extras import needs
from stas_neuro.importers.base import Imported, ImportOptions, is_onnx, refuse_unused
from stas_neuro.importers.onnx_file import read_model
from stas_neuro.importers.onnx_graph import graph_of, is_ours
from stas_neuro.ir import Graph, Stage

if TYPE_CHECKING:
    import onnx


class OnnxFile:
    """Imports ONNX files: what stas-neuro wrote as it was, a network of ReLUs by conversion to spikes."""

    summary = "an ONNX file (.onnx) of stas-neuro, or of a network of ReLUs"

    def accepts(self, source: object) -> bool:
        """Accept a path that ends in .onnx."""
        return is_onnx(source)

    def read(self, source: Any, options: ImportOptions) -> Imported:
        """Convert a file to the graph that it was written from, or a network of ReLUs as a module is.

        Raises
        ------
        InputError
            As `read_model`, `graph_of` and `module_of`; for an integer program; for an option that does not
            apply; for a network of ReLUs without `time_steps`.
        """
        path = Path(source)
        model = read_model(path)
        if not is_ours(model):
            return _converted(path, model, options)
        refuse_unused(options, (), "an ONNX file of stas-neuro")
        graph = _own(path, model)
        if graph.stage == Stage.QUANTISED:
            what = f"{source}: the graph is quantised already"
            raise InputError(what, "give the float network, or use read_onnx")
        return Imported(graph)


def _converted(path: Path, model: onnx.ModelProto, options: ImportOptions) -> Imported:
    """Convert a network that stas-neuro did not write."""
    if options.time_steps is None:
        what = f"{path}: was not written by stas-neuro (it has no metadata {KEY}), and has no spiking neurons"
        raise InputError(what, "give the steps to convert its ReLUs with (--time-steps), and an --example")
    with needs("torch"):
        from stas_neuro.importers.onnx_networks import module_of
        from stas_neuro.importers.torch_module import TorchModule
    return TorchModule().read(module_of(model), options)


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
        raise InputError(what, "use open_model, which converts networks of ReLUs")
    return _own(path, model)


def _own(path: Path, model: onnx.ModelProto) -> Graph:
    try:
        return graph_of(model)
    except InputError as error:
        raise InputError(f"{path}: {error.what}", error.remedy) from error
