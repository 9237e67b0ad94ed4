"""What is in a chart: its data, its texts, its scales."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def parts(specification: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a Vega-Lite specification."""
    if isinstance(specification, dict):
        yield specification
        for name, each in specification.items():
            if name not in ("datasets", "values"):
                yield from parts(each)
    elif isinstance(specification, list):
        for each in specification:
            yield from parts(each)


def rows_with(chart: Any, *fields: str) -> list[dict[str, Any]]:
    """Return the rows of all data of a chart that have these fields."""
    specification = chart.to_dict()
    kept = specification.get("datasets", {}).values()
    inline = (each["data"]["values"] for each in parts(specification) if "values" in each.get("data", {}))
    return [row for data in (*kept, *inline) for row in data if all(field in row for field in fields)]


def heading(chart: Any) -> tuple[str, str]:
    """Return the title of a chart, and the lines below it as one text."""
    title = chart.to_dict()["title"]
    return title["text"], "\n".join(title["subtitle"])


def legends(chart: Any) -> set[str]:
    """Return the names of the categories in the legends of a chart."""
    shown = set()
    for each in parts(chart.to_dict()):
        for channel, encoding in each.get("encoding", {}).items():
            has_legend = channel in (
                "color",
                "fill",
                "shape",
                "strokeWidth",
                "strokeDash",
                "fillOpacity",
                "opacity",
            )
            if has_legend and isinstance(encoding, dict) and "field" in encoding:
                assert encoding.get("legend", {}) is not None, (
                    f"{channel} of {encoding['field']} has no legend"
                )
                shown |= set(encoding.get("scale", {}).get("domain", ()))
    return shown


def axis_titles(chart: Any) -> set[str]:
    """Return the titles of the axes of a chart."""
    return {
        str((encoding.get("axis") or {}).get("title") or encoding.get("title"))
        for each in parts(chart.to_dict())
        for channel, encoding in each.get("encoding", {}).items()
        if channel in ("x", "y")
    }
