"""The panels and columns of which the pictures and tables of the experiments consist."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt

from stas_neuro.report.charts.style import INK, categories, colours_of, rows, shapes_of

Row = dict[str, Any]
SIDE, HEIGHT = 330, 210
"""Size of a panel in pixels."""
MARK: Row = {"size": 70, "filled": True, "opacity": 1}
SEEN = 1.96
"""Standard deviations of the 95 % interval."""


def interval(share: float, count: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share of `count` images."""
    square = SEEN**2 / count
    middle = (share + square / 2) / (1 + square)
    reach = SEEN * math.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return middle - reach, middle + reach


def priced(found: Iterable[Row]) -> list[Row]:
    """Return the cells with a total energy, with their deployment, energy in uJ and percentages."""
    listed = []
    for row in found:
        if row["error"] is not None or row.get("estimate_energy_j") is None:
            continue
        low, high = interval(row["run_accuracy"], row["run_images"])
        ends = {f"energy{end}": 1e6 * row[f"estimate_energy_j{end}"] for end in ("", "_low", "_high")}
        shares = {"accuracy": row["run_accuracy"], "accuracy_low": low, "accuracy_high": high}
        shares["visits"] = row["run_token_ratio"]
        percent = {name: 100 * value for name, value in shares.items()}
        listed.append(row | ends | percent | {"deployed": deployed(row)})
    return listed


def deployed(row: Row) -> str:
    """Name the chip and the mode of a price."""
    return f"{row['estimate.profile']}, {row['estimate.mode']}"


def over_seeds(found: Iterable[Row], keys: Sequence[str], means: Sequence[str]) -> list[Row]:
    """Return a row for each value of the keys: means over seeds, and their lowest and highest value.

    The ends of an energy are not those of seeds but means of the ends of its interval.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in found:
        groups.setdefault(tuple(row[key] for key in keys), []).append(row)
    joined = []
    for key, own in groups.items():
        line: Row = dict(zip(keys, key, strict=True)) | {"seeds": len(own)}
        for name in means:
            values = [row[name] for row in own]
            line[name] = sum(values) / len(values)
            if f"{name}_low" not in means:
                line |= {f"{name}_low": min(values), f"{name}_high": max(values)}
        joined.append(line)
    return joined


def lines(found: Iterable[Row], x: str, y: str, colour: str, /, **titles: Any) -> Any:
    """Return a panel of lines with marks.

    Keywords are titles by channel and `title` of the panel; `log` for x, `at` (where x has ticks), `domain`
    of y or `zero` (y begins at 0), `ends` (whiskers from `y_low` to `y_high`), and `width`.
    """
    listed = list(found)
    axis = alt.Axis(values=titles["at"], format="d") if "at" in titles else alt.Axis()
    kind = {"type": "log", "base": 2} if titles.get("log") else {"zero": False}
    chart = alt.Chart(rows(listed)).encode(
        x=alt.X(f"{x}:Q", title=titles["x"], scale=alt.Scale(**kind, nice=False, padding=8), axis=axis),
        **_series(listed, colour, titles),
    )
    height = _measured(y, titles)
    marks = [chart.mark_line().encode(y=height), chart.mark_point(**MARK).encode(y=height)]
    return _panel(chart, listed, y, marks, titles)


def dots(found: Iterable[Row], x: str, y: str, colour: str, /, **titles: Any) -> Any:
    """Return a panel of marks beside each other over categories; keywords as for `lines`."""
    listed = list(found)
    order = categories(row[x] for row in listed)
    chart = alt.Chart(rows(listed)).encode(
        x=alt.X(f"{x}:N", title=titles["x"], sort=order, axis=alt.Axis(labelAngle=0)),
        **_series(listed, colour, titles),
    )
    if len(names := categories(str(row[colour]) for row in listed)) > 1:
        chart = chart.encode(xOffset=alt.XOffset(f"{colour}:N", scale=alt.Scale(domain=names)))
    return _panel(chart, listed, y, [chart.mark_point(**MARK).encode(y=_measured(y, titles))], titles)


def _series(listed: list[Row], colour: str, titles: Mapping[str, Any]) -> dict[str, Any]:
    """Return the channels that tell series apart; one series alone has no legend."""
    names = categories(str(row[colour]) for row in listed)
    legend = alt.Undefined if len(names) > 1 else None
    return {
        "color": alt.Color(f"{colour}:N", title=titles.get("colour"), scale=colours_of(names), legend=legend),
        "shape": alt.Shape(f"{colour}:N", title=titles.get("colour"), scale=shapes_of(names), legend=legend),
    }


def _measured(y: str, titles: Mapping[str, Any]) -> Any:
    scale = {"domain": titles["domain"]} if "domain" in titles else {"zero": titles.get("zero", False)}
    return alt.Y(f"{y}:Q", title=titles["y"], scale=alt.Scale(**scale))


def _panel(chart: Any, listed: list[Row], y: str, marks: list[Any], titles: Mapping[str, Any]) -> Any:
    """Lay whiskers under the marks, and a line at zero where y has both signs."""
    layers = list(marks)
    if titles.get("ends"):
        ends = alt.Y(f"{y}_low:Q", title=titles["y"])
        whiskers = chart.mark_rule(strokeWidth=1.5).encode(y=ends, y2=f"{y}_high:Q")
        whiskers.encoding.shape = alt.Undefined  # a rule has none
        layers.insert(0, whiskers)
    if any(row[y] < 0 for row in listed):
        zero = alt.Chart(rows([{"zero": 0}])).mark_rule(color=INK, strokeDash=[4, 3])
        layers.insert(0, zero.encode(y=alt.Y("zero:Q", title=titles["y"])))
    sized = alt.layer(*layers).properties(width=titles.get("width", SIDE), height=HEIGHT)
    return (
        sized.properties(title=alt.TitleParams(titles["title"], fontSize=13)) if "title" in titles else sized
    )


def grid(panels: Sequence[Sequence[Any]], *, shared: Sequence[str] = ()) -> Any:
    """Put panels in rows; the channels `shared` have one scale and legend, the others their own."""
    kinds = {
        name: "shared" if name in shared else "independent" for name in ("color", "shape", "y", "xOffset")
    }
    drawn = [alt.hconcat(*row).resolve_scale(**kinds) for row in panels if row]
    return alt.vconcat(*drawn).resolve_scale(**kinds)


def energies(found: Iterable[Row], **same: Any) -> Row:
    """Return the columns of energies of the cells with these values: estimates with their intervals."""
    own = [row for row in found if all(row[name] == value for name, value in same.items())]
    return {
        f"{row['deployed']}, uJ": " to ".join(
            (f"{number(row['energy'])} ({number(row['energy_low'])}", f"{number(row['energy_high'])})")
        )
        for row in own
    }


def measured(row: Row) -> str:
    """Return an accuracy with its uncertainty, in percent: of images, or the range over seeds."""
    return f"{row['accuracy']:.1f} ({row['accuracy_low']:.1f} to {row['accuracy_high']:.1f})"


def number(value: float) -> str:
    """Format a number with three digits, without an exponent."""
    return f"{float(f'{value:.3g}'):g}" if 1e-4 <= abs(value) < 1e6 else f"{value:.2g}"


def markdown(table: list[Row]) -> str:
    """Format rows as a table; numbers with three digits."""
    names = list(dict.fromkeys(name for row in table for name in row))

    def cell(value: Any) -> str:
        return number(value) if isinstance(value, float) else str(value)

    body = [" | ".join(cell(row.get(name, "-")) for name in names) for row in table]
    head = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    return "\n".join([*head, *(f"| {line} |" for line in body)])


def first_deployment(found: list[Row]) -> list[Row]:
    """Return the cells of the first deployment: what does not depend on prices, once."""
    return [row for row in found if row["deployed"] == found[0]["deployed"]]
