"""Run a network on Lava, in either runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .failure import LavaFailure
from .network import FIXED, Array, Network
from .schedule import Schedule

RUNTIMES = ("in-process", "multiprocess")
Progress = Callable[[int, int], None]
"""Called with the number of finished images and of all."""
Records = Mapping[str, Mapping[str, Array]]


@dataclass(frozen=True, eq=False, kw_only=True)
class Result:
    """What a run gives.

    `logits` (B, classes), of a fixed network float64; `visits` bool (B, T, L, N); `spikes` maps LIF names to
    uint8 (B, steps, *shape), `states` LIF and HaltAccumulate names to int32 of such shapes, empty where not
    recorded; `counts` maps layer and kind of event to int64 (B, steps of the layer), or on cores (B, steps,
    pieces); `sent` maps layers on cores to bits of what they sent, uint8 (B, steps, bytes), see `LayerModel`.
    """

    logits: Array
    visits: Array
    counts: Mapping[str, Mapping[str, Array]]
    spikes: Mapping[str, Array] = field(default_factory=dict)
    states: Mapping[str, Array] = field(default_factory=dict)
    sent: Mapping[str, Array] = field(default_factory=dict)

    @property
    def token_ratio(self) -> float:
        """Mean share of the T*L visits that tokens used."""
        return float(self.visits.mean())


def run_network(
    network: Network,
    images: Array,
    *,
    dtype: type[np.floating[Any]] = np.float64,
    runtime: str = "in-process",
    record_spikes: bool = False,
    record_states: bool = False,
    deadline_s: float = 60.0,
    progress: Progress | None = None,
) -> Result:
    """Run images (B, C, H, W), or (B, T, C, H, W) for event data, through a network.

    They are normalised, or integers 0..255 where the network is fixed. `dtype` is the precision of one that
    is not, and only a fixed one may be asked for its states. `deadline_s` bounds how long the multi-process
    runtime may go without finishing an image. Raises LavaFailure when images do not fit or the multi-process
    runtime fails; the in-process one lets a model's own exception through.
    """
    if runtime not in RUNTIMES:
        raise LavaFailure(f"no runtime '{runtime}'", f"choose one of {', '.join(RUNTIMES)}")
    _check_images(network, images)
    heard = progress or (lambda done, total: None)
    fixed = network.arithmetic == FIXED
    options: dict[str, Any] = {
        "dtype": np.int32 if fixed else dtype,
        "record_spikes": record_spikes,
        "record_states": record_states,
    }
    if runtime == "in-process":
        from .assemble import assembled
        from .executor import execute
        from .processes import Run

        run = Run(images=len(images), period=Schedule.of(network).period, **options)
        with assembled(network, images, run) as assembly:
            records: Records = execute(assembly, run, lambda done: heard(done, len(images)))
    else:
        from .supervisor import supervise

        records = supervise(network, images, deadline_s=deadline_s, progress=heard, **options)
    return _result(network, images, records)


def _check_images(network: Network, images: Array) -> None:
    network.check_shape(images)
    if network.arithmetic == FIXED:
        if images.dtype.kind not in "iu" or images.min() < 0 or images.max() > 255:
            raise LavaFailure(
                f"images ({images.dtype}) are not integers in 0..255", "give pixels as they are stored"
            )
    elif images.dtype.kind != "f" or not np.isfinite(images).all():
        raise LavaFailure(f"images ({images.dtype}) are not finite floats", "normalise them and remove NaN")


def _result(network: Network, images: Array, records: Records) -> Result:
    recorded = ("spikes", "states", "visits", "logits", "sent")
    logits = records[network.of_op("Output")[0].name]["logits"]
    return Result(
        logits=logits * network.unit if network.arithmetic == FIXED else logits,
        visits=_visits(network, len(images), records),
        counts={
            name: {kind: array for kind, array in record.items() if kind not in recorded}
            for name, record in records.items()
        },
        spikes=_by_layer(records, "spikes"),
        states=_by_layer(records, "states"),
        sent=_by_layer(records, "sent"),
    )


def _by_layer(records: Records, what: str) -> dict[str, Array]:
    return {name: record[what] for name, record in records.items() if what in record}


def _visits(network: Network, images: int, records: Records) -> Array:
    readout = network.of_op("Readout")[0]
    blocks = readout.params["blocks"]
    masks = [records[layer.name]["visits"] for layer in network.accumulators]
    if not masks:
        last = next(wire for wire in network.wires_into(readout.name) if wire.dst_port == f"z{blocks - 1}")
        tokens = network.layer(last.src).outputs[last.src_port].shape[0]
        return np.ones((images, network.time_steps, blocks, tokens), np.bool_)
    # Halting over time has one accumulator, whose mask holds for every block of a step.
    return np.stack(masks * (blocks // len(masks)), axis=2)
