"""Late halting decisions: of a pipeline that starts a model step before the scores of the last one are in."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from stas_neuro.analysis import spiking_stages, stages_of
from stas_neuro.choices import SCHEDULES as SCHEDULES
from stas_neuro.errors import InputError, unknown
from stas_neuro.ir import (
    POLICIES,
    FixedHaltAccumulate,
    FixedLateHaltAccumulate,
    Graph,
    HaltAccumulate,
    LateHaltAccumulate,
    Node,
)
from stas_neuro.passes.pipeline_exit import PipelineExit


@dataclass(frozen=True)
class DelayDecisions:
    """Let raster or time halting decide `late` hardware steps late: model steps start S - late apart.

    A score leaves its accumulator in the hardware step of the accumulator's stage and counts there at once,
    elsewhere one hardware step later. Block l > 1 is decided at the accumulator of the block before it, block
    1 where its model step starts. A decision uses scores of visits that stand before it in raster order and
    have arrived. Weights p stay those of raster order: a visit made because the news came late weighs 0.

    Parameters
    ----------
    late : int
        1 to S - 1; with S - 1 a model step starts in each hardware step. See `spiking_stages`.

    Raises
    ------
    InputError
        When the graph halts in another mode or not at all, is late already, or `late` is out of range.
    """

    late: int

    def __call__(self, graph: Graph) -> Graph:
        """Return the graph with late decisions, of the same stage."""
        policy = POLICIES.get(graph.halting)
        if policy is not None and policy.by_image:
            raise InputError(
                f"halting is {graph.halting}: the whole image waits for its prediction, which is never late",
                "use the schedule pipelined, in which blocks compute on until then, or raster",
            )
        if policy is None or not policy.may_be_late:
            raise InputError(
                f"halting is {graph.halting}, whose decisions are exact when pipelined: there is nothing to "
                "delay",
                "use the schedule pipelined",
            )
        if graph.late:
            what = f"decisions are {graph.late} hardware steps late already"
            raise InputError(what, "delay those of the graph it was made from")
        stages = spiking_stages(graph)
        if not 1 <= self.late < stages:
            what = f"decisions {self.late} hardware steps late, in model steps of {stages}"
            raise InputError(what, f"use 1 to {stages - 1}; without delay the schedule is raster")
        lags = arrival_lags(graph, stages - self.late)
        nodes = (
            self._late(node, lags[node.name]) if isinstance(node, HaltAccumulate) else node
            for node in graph.nodes
        )
        return replace(graph, nodes=tuple(nodes))

    def _late(self, node: HaltAccumulate, lags: tuple[int, ...]) -> Node:
        cls = FixedLateHaltAccumulate if isinstance(node, FixedHaltAccumulate) else LateHaltAccumulate
        attributes = {field.name: getattr(node, field.name) for field in fields(node)}
        return cls(**attributes, late=self.late, lags=lags)


def schedule_decisions(graph: Graph, schedule: str, late: int | None = None) -> Graph:
    """Return the graph whose halting decisions are those that a schedule allows.

    Parameters
    ----------
    schedule : "raster", "pipelined" or "pipelined-stale"
        The first two change no decision; see docs/energy.md. Pipelined, blocks compute on after an image has
        exited (`PipelineExit`).
    late : int, optional
        Of `pipelined-stale` alone; by default S - 1, a model step in each hardware step.

    Raises
    ------
    InputError
        When there is no such schedule, halting does not allow it, or `late` is out of range.
    """
    decided = decisions_of(graph, schedule, late)
    return graph if decided is None else decided(graph)


def decisions_of(
    graph: Graph, schedule: str, late: int | None = None
) -> DelayDecisions | PipelineExit | None:
    """Give the pass that `schedule_decisions` applies, None where a schedule needs no other graph."""
    if schedule not in SCHEDULES:
        raise unknown("schedule", schedule, SCHEDULES)
    if schedule == "pipelined-stale":
        return DelayDecisions(spiking_stages(graph) - 1 if late is None else late)
    if late is not None:
        what = f"in the schedule {schedule} no decision is late, {late} hardware steps are asked for"
        raise InputError(what, "use the schedule pipelined-stale")
    policy = POLICIES.get(graph.halting)
    if schedule == "pipelined" and policy is not None and policy.by_image:
        return PipelineExit()
    if schedule == "pipelined" and policy is not None and policy.carried:
        what = f"{graph.halting} halting needs the scores of a model step before the next one can start"
        raise InputError(what, "use the schedule pipelined-stale, or halting rectangular, block or image")
    return None


def arrival_lags(graph: Graph, interval: int) -> dict[str, tuple[int, ...]]:
    """Give by accumulator how many model steps, `interval` apart, scores come later than in raster order."""
    stage_of = stages_of(graph)
    names = [node.name for node in graph.accumulators]
    stages = [stage_of[name] for name in names]
    lags = {}
    for block, name in enumerate(names[:-1]):
        # The scores of this step's blocks up to this one are there, those of higher blocks a step old.
        higher, here = stages[block + 1 :], stages[block]
        lags[name] = (*(_steps(stage + 1 - here, interval) - 1 for stage in higher), *[0] * (block + 1))
    # The last one stands for where block 1 is decided, at the start of the next model step.
    lags[names[-1]] = tuple(_steps(stage + 1, interval) - 1 for stage in stages)
    return lags


def _steps(hardware_steps: int, interval: int) -> int:
    """Count the model steps that hardware steps last, rounded up."""
    return -(-hardware_steps // interval)
