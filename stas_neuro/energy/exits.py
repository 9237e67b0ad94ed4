"""A stream through a pipeline whose images exit: some leave it before the next one could follow them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from stas_neuro.energy.events import Events, images_of
from stas_neuro.energy.gating import Flags
from stas_neuro.energy.latency import Latency
from stas_neuro.energy.timing import Flow

Time = Callable[[Events, Flow], Latency | None]
"""Gives the latency of events on a flow; None for a profile without."""


def exit_or_follow(
    alone: tuple[Events, Flow], following: tuple[Events, Flow], time: Time
) -> tuple[Events, Latency | None]:
    """Return events and latency of images that are followed by the next one as early as possible.

    In a pipeline the next image enters a stage when the last frame of this one has left it: `following`. An
    image that exits in fewer hardware steps than that leaves frames behind, which are thrown away with the
    state of all neurons, and the next image enters an empty pipeline: it takes the steps of one `alone`.
    """
    early, late = alone[0], following[0]
    assert early.executed is not None
    left: Flags = early.executed.sum(axis=1) < following[1].period
    if not left.any():
        return replace(late, executed=_period(left, alone, following)), time(*following)
    if left.all():
        return early, time(*alone)
    here = left[:, None, None]
    events = replace(
        late,
        counts={
            event: np.where(here, counted, late.counts[event]) for event, counted in early.counts.items()
        },
        updated=np.where(here, early.updated, late.updated),
        executed=_period(left, alone, following),
    )
    times = time(images_of(early, left), alone[1]), time(images_of(late, ~left), following[1])
    return events, _joined(*times, left)


def _period(left: Flags, alone: tuple[Events, Flow], following: tuple[Events, Flow]) -> Flags:
    """Mark the hardware steps from one image to the next, bool (images, ticks)."""
    assert alone[0].executed is not None
    followed = np.arange(len(alone[1].ticks)) < following[1].period
    return np.where(left[:, None], alone[0].executed, followed)


def _joined(first: Latency | None, second: Latency | None, of_first: Flags) -> Latency | None:
    """Join the latencies of two parts of the images."""
    if first is None or second is None:
        return None
    share = float(of_first.mean())
    times = [float(part.spacing[:, 1].sum()) for part in (first, second)]
    longer = first if times[0] > times[1] else second
    weights = np.array(times) / sum(times) if sum(times) else np.full(2, 0.5)

    def both(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        joined = np.zeros((len(of_first), one.shape[1]))
        joined[of_first], joined[~of_first] = one, other
        return joined

    return Latency(
        per_image=both(first.per_image, second.per_image),
        per_step=share * first.per_step + (1 - share) * second.per_step,
        spacing=both(first.spacing, second.spacing),
        gated=both(first.gated, second.gated),
        busy=weights[0] * first.busy + weights[1] * second.busy,
        busiest=longer.busiest,
        busiest_share=longer.busiest_share,
    )
