"""Hardware steps: the barrier-synchronised ticks of the chip that execute the model steps of an inference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from stas_neuro.activity import PHASES, Activity, Layer
from stas_neuro.choices import SCHEDULES as SCHEDULES
from stas_neuro.choices import Schedule as Schedule
from stas_neuro.errors import InputError

STEPS_LIMIT = 1 << 14
"""Largest number of hardware steps of an inference: 32 model steps of 24 blocks take less than 5000."""


@dataclass(frozen=True)
class HardwareStep:
    """One tick: `work` has the (step index, stage) pairs executed in it; its cost is attributed to `step`.

    Without work an image waits until its context has its turn again.
    """

    step: int
    work: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Flow:
    """How images follow each other: `starts` of them, one hardware step apart, in every `period` steps.

    Parameters
    ----------
    ticks : tuple of HardwareStep
        The hardware steps of one image.
    period, starts : int
        An image alone has as many steps as a period.
    """

    ticks: tuple[HardwareStep, ...]
    period: int
    starts: int = 1

    @property
    def overlaps(self) -> bool:
        """Whether several images are in flight."""
        return self.starts > 1 or self.period < len(self.ticks)

    @property
    def steps_an_image(self) -> float:
        """Hardware steps from one image to the next."""
        return self.period / self.starts

    def meeting(self) -> Iterator[tuple[int, ...]]:
        """Yield, for each hardware step of a period, the ticks of the images that are executed in it."""
        for place in range(self.period):
            first = [(place - start) % self.period for start in range(self.starts)]
            yield tuple(sorted(n for at in first for n in range(at, len(self.ticks), self.period)))


def alone(activity: Activity, schedule: Schedule) -> Flow:
    """Return the hardware steps of one image at a time."""
    ticks = hardware_steps(activity, schedule)
    return Flow(ticks, len(ticks))


def stream(activity: Activity, schedule: Schedule, contexts: int = 1) -> Flow:
    """Return the hardware steps of images that follow each other as closely as possible.

    Pipelined, the next image enters a stage when the previous one has left it: after as many hardware steps
    as a phase has steps. On other schedules an image occupies all neurons, or one of their `contexts`, until
    it is classified. In hardware step h a neuron serves context h mod `contexts`, so model steps begin a
    multiple of `contexts` apart, and each of `contexts` images returns to a stage when its turn comes:
    interleaving of independent streams in one loop, as in C-slow retiming (Leiserson and Saxe 1991).
    """
    ticks = hardware_steps(activity, schedule, contexts)
    if schedule == "pipelined":
        phases = [phase_of(label) for label in activity.steps]
        return Flow(ticks, max(phases.count(layer.phase) for layer in activity.layers))
    return Flow(ticks, contexts * -(-len(ticks) // contexts), contexts)


def phase_of(label: str) -> str:
    """Return the phase that a step of a record belongs to."""
    return label.rstrip("0123456789")


def fastest(activity: Activity) -> Schedule:
    """Return the fastest schedule that a run allows: pipelined where no layer feeds the next model step."""
    if activity.late:
        return "pipelined-stale"
    return "raster" if any(layer.feedback for layer in activity.layers) else "pipelined"


def hardware_steps(activity: Activity, schedule: Schedule, contexts: int = 1) -> tuple[HardwareStep, ...]:
    """List the hardware steps of one inference, in order.

    Phases (`once`, the `stem` steps, the model steps, `end`) follow each other. T steps of S spiking stages
    take S + (T - 1) * interval hardware steps, where `interval` is the distance between the starts of two
    steps: S in raster order, 1 if pipelined, S - late with late decisions (model steps only), each rounded up
    to a multiple of `contexts`.

    Raises
    ------
    InputError
        When a layer has no stage, the schedule needs scores earlier than they are available, or the
        schedule does not match the lateness of the run's decisions.
    """
    feedback = [layer.name for layer in activity.layers if layer.feedback]
    if schedule == "pipelined" and feedback:
        raise InputError(
            f"layer {feedback[0]} feeds the next model step, so steps cannot be pipelined",
            "use the raster schedule, or a halting mode without feedback (rectangular, block)",
        )
    if (schedule == "pipelined-stale") != bool(activity.late):
        raise InputError(
            f"decisions of the run are {activity.late} hardware steps late, but the schedule is {schedule}",
            "price a run of a network compiled for this schedule",
        )
    ticks: list[HardwareStep] = []
    for phase in PHASES:
        steps = [index for index, label in enumerate(activity.steps) if phase_of(label) == phase]
        stages = max((_stage(layer) + 1 for layer in activity.layers if layer.phase == phase), default=0)
        interval = 1 if schedule == "pipelined" else stages
        if phase == "step" and steps:
            if not 0 <= activity.late < max(stages, 1):
                what = f"decisions are {activity.late} hardware steps late, a model step has {stages}"
                raise InputError(what, "set late to 0, or to fewer steps than that")
            interval -= activity.late
        interval = contexts * -(-interval // contexts)
        if len(ticks) + stages + (len(steps) - 1) * interval > STEPS_LIMIT:
            what = f"{len(steps)} steps of phase {phase} with {stages} stages each"
            raise InputError(what, f"use fewer: an inference may take at most {STEPS_LIMIT} hardware steps")
        ticks += _phase(steps, stages, interval)
    return tuple(ticks)


def _stage(layer: Layer) -> int:
    if layer.stage is None:
        raise InputError(f"layer {layer.name} has no stage", "set it: 0 where each step is one hardware step")
    return layer.stage


def _phase(steps: list[int], stages: int, interval: int) -> list[HardwareStep]:
    ticks = []
    for tick in range(stages + (len(steps) - 1) * interval if steps and stages else 0):
        begun = ((step, tick - t * interval) for t, step in enumerate(steps))
        work = tuple((step, stage) for step, stage in begun if 0 <= stage < stages)
        step = work[0][0] if work else steps[tick // interval]
        ticks.append(HardwareStep(step, work))
    return ticks
