"""The chart of a result, for its method `plot`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from stas_neuro.energy import Comparison, Estimate
from stas_neuro.errors import InputError, unknown
from stas_neuro.report.charts.breakdown import cores_chart, layers_chart, steps_chart
from stas_neuro.report.charts.frontier import frontier_chart
from stas_neuro.report.charts.halting import exits_chart, halting_chart
from stas_neuro.report.charts.savings import savings_chart
from stas_neuro.trace import Trace

PARTS: Mapping[str, Callable[..., Any]] = {"layers": layers_chart, "steps": steps_chart, "cores": cores_chart}
"""Charts of an estimate, by what they divide it into."""


def plot(result: Any, **options: Any) -> Any:
    """Return the chart of a result.

    Parameters
    ----------
    result : Estimate, Comparison, Trace or Optimised
        An estimate is divided into `part` ("layers", the default, "steps" or "cores"). Of a trace the number
        of visits and the exits are drawn, or with `images` (array or LabelledImages) where tokens halt on
        them. Of a search the frontier.
    run : str, optional
        Name of the run in the picture.

    Raises
    ------
    InputError
        When an option is unknown, there is nothing to draw, or Altair is not installed.
    """
    known = {Estimate: ("part", "run"), Trace: ("images", "run")}.get(type(result), ("run",))
    for name in options:
        if name not in known:
            raise unknown("option of plot", name, known)
    run = options.get("run", "the run")
    if isinstance(result, Estimate):
        part = options.get("part", "layers")
        if part not in PARTS:
            raise unknown("part", part, PARTS)
        return PARTS[part](result, run=run)
    if isinstance(result, Comparison):
        return savings_chart({run: result})
    if isinstance(result, Trace):
        images = options.get("images")
        return exits_chart({run: result.visits}) if images is None else _halting(result, images, run)
    return frontier_chart(result, run=options.get("run", ""))


def _halting(trace: Trace, given: Any, run: str) -> Any:
    from stas_neuro.data import load_data

    images = load_data(given)
    if len(images) > trace.images:
        what = f"{len(images)} images, and the trace has {trace.images}"
        raise InputError(what, "give the first of the images that ran")
    return halting_chart(images.images[:], trace.visits[: len(images)], run=run)
