"""When which core works: a heat map over the hardware steps of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stas_neuro.energy import CoreWork
from stas_neuro.report.charts.axes import log_ticks
from stas_neuro.report.charts.style import SHADES, WIDTH, finished, library, rows

if TYPE_CHECKING:
    from altair.typing import ChartType

_TALLEST, _CELL = 520, 9


def core_work_chart(work: CoreWork, *, run: str = "the run") -> ChartType:
    """Draw the synaptic operations and neuron updates of each core in each hardware step of an image.

    Cells without work are empty. Groups of cores or hardware steps (`CoreWork`) are drawn as their mean.
    Raises InputError when Altair is not installed.
    """
    alt = library()
    cores, steps = work.operations.shape
    values = [
        {
            "core": core * work.cores_in_group,
            "core_end": min((core + 1) * work.cores_in_group, work.cores),
            "step": step * work.steps_in_group,
            "step_end": min((step + 1) * work.steps_in_group, work.hardware_steps),
            "of": work.steps[step],
            "n": float(f"{work.operations[core, step]:.4g}"),
        }
        for core in range(cores)
        for step in range(steps)
        if work.operations[core, step] > 0
    ]
    done = work.operations[work.operations > 0]
    ticks = log_ticks(float(done.min()), float(done.max())) if done.size else []
    grouped = [
        f"{size} {what}"
        for size, what in ((work.cores_in_group, "cores"), (work.steps_in_group, "hardware steps"))
        if size > 1
    ]
    chart = (
        alt.Chart(rows(values))
        .mark_rect()
        .encode(
            x=alt.X(
                "step:Q",
                title="hardware step of an image",
                axis=alt.Axis(tickMinStep=1, grid=False),
                scale=alt.Scale(domain=[0, work.hardware_steps], nice=False),
            ),
            x2="step_end:Q",
            y=alt.Y(
                "core:Q",
                title="core",
                axis=alt.Axis(tickMinStep=1, grid=False),
                scale=alt.Scale(domain=[0, work.cores], nice=False, reverse=True),
            ),
            y2="core_end:Q",
            color=alt.Color(
                "n:Q",
                title=["operations", "of a core in", "a hardware step"],
                scale=alt.Scale(scheme=SHADES, type="log"),
                legend=alt.Legend(format="~s", gradientLength=180, values=ticks),
            ),
            tooltip=[
                alt.Tooltip("core:Q"),
                alt.Tooltip("step:Q", title="hardware step"),
                alt.Tooltip("of:N", title="step of the network"),
                alt.Tooltip("n:Q", title="operations", format=".3s"),
            ],
        )
        .properties(width=WIDTH, height=min(_TALLEST, max(120, cores * _CELL)))
    )
    where = "as placed" if work.placed else "cores by packing, with equal shares of a layer's work"
    return finished(
        chart,
        "Work of the cores over hardware steps",
        f"{run} on {work.profile}, {work.schedule}: {work.cores} cores ({where}), "
        f"{work.hardware_steps} hardware steps",
        f"Synaptic operations and neuron updates, mean of {work.images} images; empty: none"
        + (f"; each cell is the mean of {' and '.join(grouped)}" if grouped else ""),
        "Counted in a simulated run: estimated, not measured on a chip.",
    )
