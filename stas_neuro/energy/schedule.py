"""Hardware steps: the barrier-synchronised ticks that the model steps of one inference take on a chip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stas_neuro.activity import PHASES, Activity, Layer
from stas_neuro.errors import InputError

Schedule = Literal["serial", "pipelined"]
SCHEDULES: dict[Schedule, str] = {
    "serial": "one spiking stage of one model step after another; neurons keep their state while others work",
    "pipelined": "model steps follow each other one hardware step apart, all stages at work",
}
"""What each schedule means, as reports tell it."""


@dataclass(frozen=True)
class HardwareStep:
    """One tick: `work` are the (step index, stage) pairs done in it, `step` is the one it is accounted to."""

    step: int
    work: tuple[tuple[int, int], ...]


def fastest(activity: Activity) -> Schedule:
    """Name the fastest schedule that a run allows: pipelined where no layer feeds the next model step."""
    return "serial" if any(layer.feedback for layer in activity.layers) else "pipelined"


def hardware_steps(activity: Activity, schedule: Schedule) -> tuple[HardwareStep, ...]:
    """List the hardware steps of one inference, in order.

    Phases (`once`, the `stem` steps, the model steps, `end`) follow each other. Serially T steps of S spiking
    stages take T*S hardware steps, pipelined S + T - 1.

    Raises
    ------
    InputError
        When a layer has no stage, or a pipeline is asked for where one feeds the next model step.
    """
    feedback = [layer.name for layer in activity.layers if layer.feedback]
    if schedule == "pipelined" and feedback:
        raise InputError(
            f"layer {feedback[0]} feeds the next model step, so that steps cannot be pipelined",
            "use the serial schedule, or a halting mode without feedback (rectangular, block)",
        )
    ticks: list[HardwareStep] = []
    for phase in PHASES:
        steps = [index for index, label in enumerate(activity.steps) if label.rstrip("0123456789") == phase]
        stages = max((_stage(layer) + 1 for layer in activity.layers if layer.phase == phase), default=0)
        ticks += _phase(steps, stages, schedule)
    return tuple(ticks)


def _stage(layer: Layer) -> int:
    if layer.stage is None:
        raise InputError(
            f"layer {layer.name} has no stage", "give it one: 0 where each step is one hardware step"
        )
    return layer.stage


def _phase(steps: list[int], stages: int, schedule: Schedule) -> list[HardwareStep]:
    if schedule == "serial" or stages == 0:
        return [HardwareStep(step, ((step, stage),)) for step in steps for stage in range(stages)]
    ticks = []
    for tick in range(stages + len(steps) - 1):
        work = tuple((step, tick - t) for t, step in enumerate(steps) if 0 <= tick - t < stages)
        ticks.append(HardwareStep(work[0][0], work))
    return ticks
