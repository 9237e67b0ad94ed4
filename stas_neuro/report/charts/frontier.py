"""Accuracy over energy of the deployments that a search found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stas_neuro.display import si
from stas_neuro.errors import InputError
from stas_neuro.report.charts.axes import above_zero, log_axis
from stas_neuro.report.charts.style import (
    INK,
    INTERVAL,
    STRUCTURES,
    WIDTH,
    categories,
    colours_of,
    finished,
    library,
    rows,
    shapes_of,
)
from stas_neuro.report.frontier_file import Frontier, FrontierPoint, frontier_of

if TYPE_CHECKING:
    from altair.typing import ChartType

    from stas_neuro.energy.result import Interval
    from stas_neuro.optimiser import Optimised

_MODE_WORDS = {"single": "one image at a time", "stream": "images in a stream"}
_ON, _OFF = "on the frontier", "not on it: best of its kind"
_OPACITIES = {_ON: 1.0, _OFF: 0.5}
_ENERGY, _STRUCTURES = f"energy: {INTERVAL}", f"energy: {STRUCTURES}"
_ACCURACY = "accuracy: 95 % interval"
_WIDTHS = {_ENERGY: 1.0, _STRUCTURES: 4.0}


def frontier_chart(result: Optimised | Frontier, *, run: str = "") -> ChartType:
    """Draw accuracy over energy of an image, with intervals; pale marks are not on the frontier.

    Parameters
    ----------
    result : Optimised or Frontier
        A result of `optimise`, or one that was read from its file.
    run : str
        Name of the searched model. Default: the directory of the file, if it was read.

    Raises
    ------
    InputError
        When the search found no deployment, or Altair is not installed.
    """
    alt = library()
    found = frontier_of(result)
    name = run or found.name
    if not found.points:
        raise InputError(f"the search on {found.profile} found no deployment", "search with other options")
    labels = categories(point.family_words for point in found.points)
    low = min(point.price.energy_j.value for point in found.points)
    ends = [
        max(end, low / 100)
        for point in found.points
        for _, span in _spans(point)
        for end in (span.low, span.high)
    ]
    what = "energy of an image" if found.events_only is None else "energy of the events of an image"
    scale, axis = log_axis(ends, f"{what}, J (logarithmic)", "J")
    y_scale = alt.Scale(zero=False, nice=True)
    percent = alt.Axis(format=".0%", tickCount=8)
    colour = alt.Color(
        "family:N",
        sort=labels,
        scale=colours_of(labels),
        title="how it halts",
        legend=alt.Legend(symbolOpacity=1),
    )
    lines = [line for point in found.points for line in _energies(point, scale)]
    known = [each for each in _WIDTHS if any(line["line"] == each for line in lines)]
    y_title = f"accuracy on {found.images[1]} images"
    energies = (
        alt.Chart(rows(lines))
        .mark_rule(opacity=0.55, strokeCap="butt")
        .encode(
            x=alt.X("low:Q", scale=scale, axis=axis),
            x2="high:Q",
            y=alt.Y("accuracy:Q", scale=y_scale, title=y_title, axis=percent),
            color=colour,
            strokeWidth=alt.StrokeWidth(
                "line:O",
                sort=known,
                title="lines",
                scale=alt.Scale(type="ordinal", domain=known, range=[_WIDTHS[each] for each in known]),
            ),
        )
    )
    accuracies = (
        alt.Chart(rows(map(_accuracy, found.points)))
        .mark_rule(opacity=0.55, strokeWidth=1)
        .encode(
            x=alt.X("energy:Q", scale=scale),
            y=alt.Y("low:Q", scale=y_scale),
            y2="high:Q",
            color=colour,
            strokeDash=alt.StrokeDash(
                "line:O", title="dashed", scale=alt.Scale(type="ordinal", domain=[_ACCURACY], range=[[3, 2]])
            ),
        )
    )
    places = [each for each in _OPACITIES if any(_place(point) == each for point in found.points)]
    marks = (
        alt.Chart(rows(map(_mark, found.points)))
        .mark_point(size=90, filled=True)
        .encode(
            x=alt.X("energy:Q", scale=scale),
            y=alt.Y("accuracy:Q", scale=y_scale),
            color=colour,
            shape=alt.Shape("family:N", sort=labels, scale=shapes_of(labels), title="how it halts"),
            opacity=alt.Opacity(
                "place:O",
                sort=places,
                title="marks",
                scale=alt.Scale(type="ordinal", domain=places, range=[_OPACITIES[each] for each in places]),
                legend=alt.Legend(symbolType="circle", symbolFillColor=INK, symbolStrokeWidth=0),
            ),
            tooltip=[
                "network:N",
                "family:N",
                "roles:N",
                "text:N",
                "latency:N",
                alt.Tooltip("accuracy:Q", format=".1%"),
                "cores:Q",
            ],
        )
    )
    layers = [energies, accuracies, marks]
    if any("best" in point.roles for point in found.points):
        layers.append(_best(found, scale, y_scale))
    return finished(
        alt.layer(*layers).properties(width=WIDTH, height=380),
        f"Deployments on {found.profile}, {_MODE_WORDS.get(found.mode, found.mode)}",
        f"{name and f'{name}: '}the best of {found.deployments} deployments of {found.networks} networks, "
        "compiled and run",
        f"All energies are {found.points[0].disclaimer}.",
    )


def _best(found: Frontier, scale: Any, y_scale: Any) -> Any:
    """Draw a ring around the best deployment."""
    alt = library()
    words = f"best {found.objective}, accurate enough"
    ring = [_mark(point) | {"ring": words} for point in found.points if "best" in point.roles]
    return (
        alt.Chart(rows(ring))
        .mark_point(color=INK, strokeWidth=1.4, filled=False)
        .encode(
            x=alt.X("energy:Q", scale=scale),
            y=alt.Y("accuracy:Q", scale=y_scale),
            size=alt.Size(
                "ring:O",
                title="ring",
                scale=alt.Scale(type="ordinal", domain=[words], range=[420]),
                legend=alt.Legend(symbolType="circle"),
            ),
        )
    )


def _place(point: FrontierPoint) -> str:
    return _ON if "frontier" in point.roles else _OFF


def _mark(point: FrontierPoint) -> dict[str, Any]:
    return {
        "network": point.network,
        "family": point.family_words,
        "roles": ", ".join(point.roles),
        "place": _place(point),
        "energy": point.price.energy_j.value,
        "accuracy": point.accuracy,
        "text": si(point.price.energy_j.value, "J"),
        "latency": si(point.price.latency_s.value, "s"),
        "cores": point.cores,
    }


def _spans(point: FrontierPoint) -> list[tuple[str, Interval]]:
    """Return the energies of a point: the interval, and the range over structures."""
    spans = [(_ENERGY, point.price.energy_j)]
    if (known := point.structural_range) is not None:
        over = known.dynamic_energy_j if known.energy_j is None else known.energy_j
        spans += [] if over is None else [(_STRUCTURES, over)]
    return spans


def _energies(point: FrontierPoint, scale: Any) -> list[dict[str, Any]]:
    """Return the lines along the axis of energy."""
    return [
        {
            "line": line,
            "low": above_zero(span.low, scale),
            "high": span.high,
            "accuracy": point.accuracy,
            "family": point.family_words,
        }
        for line, span in _spans(point)
    ]


def _accuracy(point: FrontierPoint) -> dict[str, Any]:
    """Return the line along the axis of accuracy."""
    low, high = point.accuracy_interval
    energy = point.price.energy_j.value
    return {"line": _ACCURACY, "low": low, "high": high, "energy": energy, "family": point.family_words}
