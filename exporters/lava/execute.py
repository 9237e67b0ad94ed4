"""Run a graph on Lava, in either runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stas_neuro.exporters.lava.failure import LavaRunError
from stas_neuro.exporters.lava.jobs import LayerJob, Progress, Records, check_runtime, run_job
from stas_neuro.exporters.lava.runnable import check_stage
from stas_neuro.ir import Array, FixedOutput, Graph, Stage


@dataclass(frozen=True, eq=False, kw_only=True)
class Result:
    """What a run gives.

    `logits` (B, classes), of a quantised graph float64; `visits` bool (B, T, L, N); `spikes` maps LIF names
    to uint8 (B, steps, *shape), `states` LIF and HaltAccumulate names to int32 of such shapes, empty where
    not recorded; `counts` maps node and kind of event to int64 (B, steps of the node), or on cores (B, steps,
    pieces); `sent` maps nodes on cores to bits of what they sent, uint8 (B, steps, bytes), see `NodeModel`.
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


def run_network(  # noqa: PLR0913
    network: Graph,
    images: Array,
    *,
    cores: Mapping[str, Array] | None = None,
    dtype: type[np.floating[Any]] = np.float64,
    runtime: str = "in-process",
    record_spikes: bool = False,
    record_states: bool = False,
    deadline_s: float = 60.0,
    progress: Progress | None = None,
) -> Result:
    """Run images (B, C, H, W), or (B, T, C, H, W) for event data, through a network.

    They are normalised, or integers 0..255 where the graph is quantised. `cores` is what `cores_of` gives,
    for a network on cores. `dtype` is the precision of a folded graph, and only a quantised one may be asked
    for its states. `deadline_s` bounds how long the multi-process runtime may go without finishing an image.
    Raises InputError when the graph still has BatchNorm nodes, LavaRunError when images do not fit or the
    multi-process runtime fails; the in-process one lets a model's own exception through.
    """
    check_stage(network)
    check_runtime(runtime)
    check_images(network, images)
    fixed = network.stage == Stage.QUANTISED
    options: dict[str, Any] = {
        "dtype": np.int32 if fixed else dtype,
        "record_spikes": record_spikes,
        "record_states": record_states,
    }
    job = LayerJob(network=network, images=np.asarray(images), cores=cores or {}, options=options)
    records = run_job(job, runtime=runtime, deadline_s=deadline_s, progress=progress)
    return _result(network, images, records)


def check_shape(network: Graph, images: Array) -> None:
    """Raise LavaRunError unless there are images, (B, *image_shape)."""
    wanted = network.image_shape
    if len(images.shape) == 0 or len(images) == 0 or images.shape[1:] != wanted:
        raise LavaRunError(
            f"images have shape {images.shape}, the network takes (B, {', '.join(map(str, wanted))})",
            "give at least one image of that shape",
        )


def check_images(network: Graph, images: Array) -> None:
    """Raise LavaRunError unless images are what a network takes."""
    check_shape(network, images)
    if network.stage == Stage.QUANTISED:
        if images.dtype.kind not in "iu" or images.min() < 0 or images.max() > 255:
            raise LavaRunError(
                f"images ({images.dtype}) are not integers in 0..255", "give pixels as they are stored"
            )
    elif images.dtype.kind != "f" or not np.isfinite(images).all():
        raise LavaRunError(f"images ({images.dtype}) are not finite floats", "normalise them and remove NaN")


def _result(network: Graph, images: Array, records: Records) -> Result:
    recorded = ("spikes", "states", "visits", "logits", "sent")
    output = network.output
    logits = records[output.name]["logits"]
    return Result(
        logits=logits * float(output.unit) if isinstance(output, FixedOutput) else logits,
        visits=_visits(network, len(images), records),
        counts={
            name: {kind: array for kind, array in record.items() if kind not in recorded}
            for name, record in records.items()
        },
        spikes=_by_node(records, "spikes"),
        states=_by_node(records, "states"),
        sent=_by_node(records, "sent"),
    )


def _by_node(records: Records, what: str) -> dict[str, Array]:
    return {name: record[what] for name, record in records.items() if what in record}


def _visits(network: Graph, images: int, records: Records) -> Array:
    masks = [records[node.name]["visits"] for node in network.accumulators]
    if not masks:
        return np.ones((images, network.time_steps, network.blocks, network.tokens), np.bool_)
    # Halting over time has one accumulator, whose mask holds for every block of a step.
    return np.stack(masks * (network.blocks // len(masks)), axis=2)
