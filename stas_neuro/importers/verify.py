"""Compares a graph with its module: all spikes and logits on the example, in float64."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from stas_neuro.errors import InputError
from stas_neuro.importers.axes import Piece
from stas_neuro.importers.errors import ImportDiffers
from stas_neuro.importers.lower import Lowering, Spikes
from stas_neuro.importers.neurons import FoundNeuron
from stas_neuro.ir import Array, Graph
from stas_neuro.reference import run_reference

TOLERANCE = 1e-9
"""Largest difference of logits relative to the largest logit, or 1: sums have another order."""


@dataclass(frozen=True)
class Agreement:
    """How a graph and its module agree on an example.

    Parameters
    ----------
    images, neurons, spikes : int
        Numbers of compared images, layers of neurons, and spikes; all are equal.
    logits : float
        Largest difference of logits.
    silent : tuple of str
        Layers in which no neuron fires: the example does not test the layers behind them.
    """

    images: int
    neurons: int
    spikes: int
    logits: float
    silent: tuple[str, ...] = ()

    def __str__(self) -> str:
        return (
            f"equal to the module in float64 on {self.images} images: all {self.spikes} values of "
            f"{self.neurons} layer{'s' * (self.neurons > 1)} of neurons, logits within {self.logits:.1g}"
            + (f"; no neuron fires in {', '.join(self.silent)}" if self.silent else "")
        )


def compare(
    module: nn.Module,
    example: Tensor,
    axes: str,
    graph: Graph,
    found: Sequence[FoundNeuron],
    lowering: Lowering,
) -> Agreement:
    """Run a module and its graph on the example; one image at a time if neurons step over images.

    Raises
    ------
    ImportDiffers
        If a spike or a logit differs; it names the first layer of neurons that does.
    """
    batches = example.split(1, axes.index("B")) if lowering.batched else (example,)
    runs = [run_module(module, batch, found) for batch in batches]
    logits = np.concatenate(
        [each if lowering.averaged is None else each.mean(lowering.averaged) for each, _ in runs]
    )
    images = np.moveaxis(example.double().numpy(), axes.index("B"), 0)
    if "H" not in axes:
        images = images[..., None, :]
    ran = run_reference(graph, images, record_spikes=True, count=False)
    compared = 0
    order = {node.name: index for index, node in enumerate(graph.nodes)}
    # Neurons whose spikes nothing uses are not in the graph.
    spikes = {
        index: calls for index, calls in lowering.spikes.items() if _parts(calls[0], lowering)[0] in order
    }
    for index, calls in sorted(spikes.items(), key=lambda each: order[_parts(each[1][0], lowering)[0]]):
        path = found[index].path
        own = [spikes[path] for _, spikes in runs]
        if len(own[0]) != len(calls):
            what = f"{path} is called {len(own[0])} times in a run and {len(calls)} times in the trace"
            raise ImportDiffers(what, "compute the same on every input")
        for call, *theirs in zip(calls, *own, strict=True):
            parts = _parts(call, lowering)
            on_map = len(graph.types[parts[0], "s"].shape) == 3
            wanted = np.concatenate([_in_order(each, call, on_map) for each in theirs])
            ours = np.concatenate([ran.spikes[part] for part in parts], axis=2 if on_map else -1)
            ours = ours if call.value.step is None else ours[:, call.value.step]
            wrong = int((ours.reshape(wanted.shape) != wanted).sum())
            if wrong:
                what = f"{path}: {wrong} of {wanted.size} spikes differ from those of the module in float64"
                raise ImportDiffers(what, "check the option neurons for the neurons before it")
            compared += wanted.size
    worst = float(np.abs(ran.logits - logits).max())
    if worst > TOLERANCE * max(1.0, float(np.abs(logits).max())):
        what = f"logits differ from those of the module by {worst:g}, spikes do not"
        raise ImportDiffers(what, "check the module's head, and report the module")
    silent = [
        found[index].path
        for index in spikes
        if not any(each.any() for _, own in runs for each in own[found[index].path])
    ]
    return Agreement(len(images), len(spikes), compared, worst, tuple(silent))


def run_module(
    module: nn.Module, example: Tensor, found: Sequence[FoundNeuron]
) -> tuple[Array, dict[str, list[Array]]]:
    """Run a copy of a module in float64; return its output, and by path the spikes of each call.

    Raises
    ------
    InputError
        If the module fails.
    """
    for each in found:
        for name in ("reset", "reset_mem"):
            if hasattr(each.module, name):
                with torch.no_grad():
                    getattr(each.module, name)()
    try:
        return _run(copy.deepcopy(module).double(), example, found)
    except Exception as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"the module does not run in float64: {first}", "support double()") from error


def _run(
    precise: nn.Module, example: Tensor, found: Sequence[FoundNeuron]
) -> tuple[Array, dict[str, list[Array]]]:
    spikes: dict[str, list[Array]] = {each.path: [] for each in found}
    for each in found:
        neuron = precise.get_submodule(each.path)
        if hasattr(neuron, "backend"):
            setattr(neuron, "backend", "torch")  # noqa: B010 - SpikingJelly's others run on a GPU
        neuron.register_forward_hook(_noting(spikes[each.path]))
    with torch.no_grad():
        output = precise(example.double())
    logits: Tensor = output[0] if isinstance(output, tuple | list) else output
    result: Array = logits.numpy()
    return result, spikes


def _noting(spikes: list[Array]) -> Any:
    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        given = output[0] if isinstance(output, tuple) else output
        spikes.append(given.detach().numpy() != 0)
        given = given.double()  # some surrogates return float32 for any input
        return (given, *output[1:]) if isinstance(output, tuple) else given

    return hook


def _parts(call: Spikes, lowering: Lowering) -> Sequence[str]:
    """Return the neurons of a call: one, or several of some channels each."""
    return lowering.split.get(call.node, (call.node,))


def _in_order(spikes: Array, call: Spikes, on_map: bool) -> Array:
    """Reorder spikes of a module as in a trace: (B, T, ...), without T for those of one step."""
    dims = call.value.dims
    pieces = [piece for dim in dims for piece in dim]
    images = spikes.size // int(np.prod([piece.size for piece in pieces if piece.kind != "B"]))
    flat = spikes.reshape([images if piece.kind == "B" else piece.size for piece in pieces])
    kinds = "BTCHW" if on_map else "BTHWC"
    order = sorted(range(len(pieces)), key=lambda index: _key(pieces[index], kinds))
    ordered: Array = flat.transpose(order)
    return ordered


def _key(piece: Piece, kinds: str) -> tuple[int, int]:
    return kinds.index(piece.kind), -piece.stride
