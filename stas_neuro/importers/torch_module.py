"""Imports a torch module: reads its neurons, traces it, lowers it, and compares the graph with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from stas_neuro.errors import InputError
from stas_neuro.importers import ann, verify
from stas_neuro.importers.base import Imported, ImportOptions, is_factory, refuse_unused
from stas_neuro.importers.blocks import arrange
from stas_neuro.importers.errors import CannotImport
from stas_neuro.importers.factory import make_module
from stas_neuro.importers.lower import Lowering
from stas_neuro.importers.neurons import FoundNeuron, find_neurons
from stas_neuro.importers.recurrence import sequences_of
from stas_neuro.importers.slices import split_layers
from stas_neuro.importers.trace import BATCHES, Traced, trace
from stas_neuro.ir import Graph, IRError, Preprocessing, Problems
from stas_neuro.passes import FoldBatchNorm

AXES = {3: "BCW", 4: "BCHW", 5: "BTCHW"}
"""Axes of an example, by their number."""
COMPARED = 8
"""Images of the example on which a converted network of ReLUs is compared with its graph."""
_USED = (
    *("axes", "classes", "ema", "example", "mean", "neurons", "std", "stem", "stem_mode", "time_steps"),
    "weights",
)


class TorchModule:
    """Imports torch modules, and functions in a file that return one."""

    summary = "a torch module, or file.py:function, which returns one"

    def accepts(self, source: object) -> bool:
        """Accept a module, or the text "file.py:function"."""
        return isinstance(source, nn.Module) or is_factory(source)

    def read(self, source: Any, options: ImportOptions) -> Imported:
        """Convert a module in evaluation mode to a traced graph.

        Its neurons are reset; the module is not changed otherwise. With `time_steps` a module of ReLUs is
        first converted to neurons, whose thresholds are chosen on the whole example.

        Raises
        ------
        CannotImport
            If a graph cannot express it: all reasons at once, each with module path and source line.
        ImportDiffers
            If the graph does not compute the module's spikes and logits on the example.
        """
        refuse_unused(options, _USED, "a module")
        module, options, report = make_module(source, options)
        _check_module(module)
        if options.example is None:
            raise InputError(
                "no example is given", "give inputs of the module, normalised images, as example"
            )
        example = torch.as_tensor(options.example)
        axes = _axes_of(example, options)
        problems = Problems()
        found = find_neurons(module, options.neurons, problems)
        if problems.found:
            raise CannotImport(*problems.found)
        notes: list[str] = []
        if options.time_steps is not None or options.stem is not None or options.stem_mode is not None:
            module, notes = _converted(module, example, axes, found, options)
            found, example = find_neurons(module, {}, problems), example[:COMPARED]
        dtype = next((each.dtype for each in module.parameters()), torch.float32)
        traced = _traced(module, example, axes, dtype, found)
        lowering = Lowering(traced, axes, problems)
        lowering.run()
        if problems.found:
            raise CannotImport(*problems.found)
        graph, folded = _graphs(lowering, options)
        agreement = verify.compare(module, example, axes, folded, found, lowering)
        notes = [*notes, str(agreement)]
        if report is not None:
            report = replace(report, unused=tuple(traced.unused()))
            notes += [f"weights: {sentence}" for sentence in report.sentences()]
        return Imported(graph, tuple(notes), _warnings(lowering))


def _converted(
    module: nn.Module, example: Tensor, axes: str, found: Sequence[FoundNeuron], options: ImportOptions
) -> tuple[nn.Module, list[str]]:
    """Convert a module of ReLUs, and tell how often it predicts the same."""
    if found:
        what = f"time_steps, stem: options for a module of ReLUs, and {found[0].path or 'it'} is a neuron"
        raise InputError(what, "leave them out")
    if options.time_steps is None:
        raise InputError("stem is given without time_steps", "give the steps of the converted network too")
    if axes != "BCHW":
        raise InputError(f"a module of ReLUs takes still images, axes are {axes}", "use BCHW")
    example = example.to(next((each.dtype for each in module.parameters()), torch.float32))
    stem: dict[str, Any] = {"stem": options.stem or "", "mode": options.stem_mode or "one-step"}
    spiking = ann.convert(module, example, options.time_steps, **stem)
    with torch.no_grad():
        parts = example.split(ann.CHUNK)
        same = sum(int((spiking(part).argmax(1) == module(part).argmax(1)).sum()) for part in parts)
    steps = f"{options.time_steps} step{'s' * (options.time_steps > 1)}"
    note = f"converted to {steps}: predicts the same as the ReLUs for {same} of {len(example)} images"
    return spiking, [note]


def _check_module(module: nn.Module) -> None:
    if module.training:
        raise InputError("the module is in training mode", "call its eval()")
    for name, tensor in module.state_dict().items():
        if tensor.device.type != "cpu":
            raise InputError(f"{name} is on {tensor.device}", "move the module with cpu()")
        if tensor.is_floating_point() and tensor.dtype not in (torch.float32, torch.float64):
            what = f"{name} is {str(tensor.dtype).removeprefix('torch.')}"
            raise InputError(what, "convert the module with float()")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise InputError(f"{name} contains NaN or infinite values", "train again")


def _axes_of(example: Tensor, options: ImportOptions) -> str:
    axes = options.axes or AXES.get(example.ndim, "")
    first, last = axes.partition("C")[::2]
    if first not in ("B", "BT", "TB") or last not in ("W", "HW"):
        what = f"axes are {axes!r}" if axes else f"the example has {example.ndim} axes"
        raise InputError(
            what,
            "give images (B, C, H, W) or sequences (B, C, W), or with axes BTCHW, TBCHW, BTCW or TBCW one "
            "frame for each step",
        )
    if len(axes) != example.ndim:
        what = f"the example has shape {tuple(example.shape)}, axes are {axes}"
        raise InputError(what, "give one letter for each axis of the example")
    return axes


def _traced(
    module: nn.Module, example: Tensor, axes: str, dtype: torch.dtype, found: Sequence[FoundNeuron]
) -> Traced:
    """Trace with a number of images that differs from the number of steps and the other sizes."""
    traced = None
    for batch in BATCHES:
        shape = {**dict(zip(axes, map(int, example.shape), strict=True)), "B": batch}
        traced = trace(module, shape, dtype, found)
        # If sequences are multiples of both numbers, they have images in the axis of steps.
        multiples = [size for size in sequences_of(traced.calls) if size % batch == 0]
        if batch not in example.shape and not multiples:
            break
    assert traced is not None
    return traced


def _warnings(lowering: Lowering) -> tuple[str, ...]:
    """Return in which way the module computes something else than the graph."""
    texts = []
    if lowering.batched:
        texts.append(
            f"{', '.join(dict.fromkeys(lowering.batched))}: the first axis has the images of a batch beside "
            "the steps, so in the module the result of an image depends on those before it in its batch; "
            "the graph computes what the module computes for one image at a time, and was compared so"
        )
    if lowering.averaged is not None:
        texts.append(
            "the module returns logits of each step; the graph returns their mean over the steps, and was "
            "compared with that"
        )
    return tuple(texts)


def _graphs(lowering: Lowering, options: ImportOptions) -> tuple[Graph, Graph]:
    """Return the traced graph, and the folded graph, which backends run."""
    lowering.builder.prune()
    lowering.split = split_layers(lowering.builder)
    arrange(lowering.builder)
    channels = next(node.shape[0] for node in lowering.builder.nodes.values() if hasattr(node, "shape"))
    classes = options.classes or [str(index) for index in range(lowering.classes)]
    mean = tuple(map(float, options.mean)) if options.mean is not None else (0.0,) * channels
    std = tuple(map(float, options.std)) if options.std is not None else (1.0,) * channels
    try:
        graph = lowering.builder.graph(lowering.time_steps, classes, Preprocessing(mean, std))
        return graph, FoldBatchNorm()(graph)
    except IRError as error:
        raise CannotImport(*error.problems) from error
