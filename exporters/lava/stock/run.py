"""Runs a network of stock processes on Lava and tells what it did, image by image and step by step."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping

import numpy as np

from stas_neuro.errors import InputError
from stas_neuro.ir import Array, FixedInput, Phase
from stas_neuro.trace import Trace

from .activity import record_activity
from .lower import StockNetwork
from .lowering import CONTROL, IMAGE
from .netlist import FIRST, GO, NeuronGroup, Signal
from .readout import read_out
from .units import unit_of

Progress = Callable[[int, int], None]
"""Called with the number of finished images and of all."""


def run_stock(
    network: StockNetwork,
    images: Array,
    *,
    record_spikes: bool = False,
    chunk: int = 32,
    progress: Progress | None = None,
) -> Trace:
    """Run images through the stock processes, one after the other without a gap.

    Parameters
    ----------
    network : StockNetwork
        What `lower_stock` made of a quantised graph.
    images : int (B, C, H, W), or (B, T, C, H, W) where the graph takes event data
        Pixels 0..255.
    record_spikes : bool
        Whether the trace holds the spikes of every LIF of the graph.
    chunk : int
        Images in one run of Lava, which bounds the memory needed.

    Returns
    -------
    Trace
        Logits, visits and spikes as of the graph in any other backend, the delay of the pipeline taken out;
        the activity is that of the stock processes.

    Raises
    ------
    InputError
        When the images do not fit the graph.
    """
    _check_images(network, images)
    traces = []
    for start in range(0, len(images), chunk):
        batch = images[start : start + chunk]
        traces.append(_run(network, batch, record_spikes))
        gc.collect()  # Lava's processes refer to each other in cycles, with all their weights
        if progress is not None:
            progress(start + len(batch), len(images))
    return Trace.concatenate(traces)


def _check_images(network: StockNetwork, images: Array) -> None:
    graph = network.graph
    wanted = graph.image_shape
    if images.shape[1:] != wanted or not len(images):
        axes = ", ".join(map(str, wanted))
        raise InputError(f"images have shape {images.shape}", f"give (images, {axes}), at least 1 image")
    assert isinstance(graph.input, FixedInput)  # only integer programs are lowered
    largest = graph.input.largest
    if images.dtype.kind not in "iu" or images.min() < 0 or images.max() > largest:
        what = f"images ({images.dtype}) are not integers 0..{largest}"
        raise InputError(what, "give the pixels as they are stored")


def _run(network: StockNetwork, images: Array, record_spikes: bool) -> Trace:
    from .execute import execute
    from .processes import assembled

    pipeline, graph = network.pipeline, network.graph
    steps = len(images) * pipeline.period + pipeline.depth
    with assembled(pipeline, _inputs(network, images, steps), steps) as assembly:
        records = execute(assembly, steps)
    sent = {
        group.name: _by_image(records[group.name], group, len(images), pipeline.period)
        for group in pipeline.groups
    }
    visits = np.ones((len(images), graph.time_steps, graph.blocks, graph.tokens), np.bool_)
    for block, mask in network.alive.items():
        visits[:, :, block] = _values(sent, mask) > 0
    states = {
        port: _values(sent, signal).astype(np.int64) * unit_of(graph, graph.readout, port)
        for port, signal in network.states.items()
    }
    logits, operations = read_out(graph, states, visits)
    spikes = {}
    for name, signal in network.spikes.items() if record_spikes else ():
        steps_of = 1 if signal.group.once else graph.time_steps
        spikes[name] = _values(sent, signal)[:, :steps_of].astype(np.uint8)
    return Trace(
        logits=logits,
        visits=visits,
        counted=record_activity(network, sent, visits, operations),
        spikes=spikes,
    )


def _inputs(network: StockNetwork, images: Array, steps: int) -> dict[str, Array]:
    """Give what the host sends, int32 (size, steps) by source."""
    period = network.pipeline.period
    during = np.arange(len(images) * period)
    control = np.zeros((2, steps), np.int32)
    control[GO, during], control[FIRST, during[::period]] = 1, 1
    group = network.pipeline.group(IMAGE)
    pixels = np.zeros((group.size, steps), np.int32)
    by_frame = network.graph.input.phase != Phase.ONCE
    frames = images.reshape(-1, group.size).T if by_frame else images.reshape(len(images), -1).T
    if by_frame or group.once:
        pixels[:, during if by_frame else during[::period]] = frames
    else:
        pixels[:, during] = np.repeat(frames, period, axis=1)
    return {CONTROL: control, IMAGE: pixels}


def _by_image(record: Array, group: NeuronGroup, images: int, period: int) -> Array:
    """Cut what a group sent into its steps of each image: (B, period, size)."""
    window = record[:, group.depth : group.depth + images * period]
    by_image: Array = window.T.reshape(images, period, group.size)
    return by_image


def _values(sent: Mapping[str, Array], signal: Signal) -> Array:
    """Values of a signal, (B, period, *shape)."""
    values: Array = sent[signal.group.name][:, :, signal.index]
    return values
