"""What all charts share: colours, fonts, titles, and rows of data for Altair."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stas_neuro.extras import needs

if TYPE_CHECKING:
    import altair
    from altair.typing import ChartType

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A8A8A", "#B3A100")
"""Okabe and Ito's colours, which colour-blind readers can distinguish, with a grey and a darker yellow: all
are visible on white and on black."""
SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "triangle-right", "stroke")
"""Marks of categories, so that they differ without colours too."""
SHADES = "viridis"
"""Scheme of amounts, from dark to light: readable in print and by colour-blind readers."""
INK, PALE, PAPER = "#1b1f24", "#d5d9de", "#ffffff"
INTERVAL, STRUCTURES = "interval of the chip's figures", "range over unknown structures"
"""What the thin and the thick line of a price are."""
WIDTH = 620
"""Width of the plot of a chart in pixels; names of its rows are left of it."""
FONT = "system-ui, 'Segoe UI', 'Liberation Sans', Arial, sans-serif"


def library() -> Any:
    """Import Altair; raises InputError where it is not installed."""
    with needs("report"):
        import altair

    return altair


def rows(values: Iterable[Mapping[str, object]]) -> altair.Data:
    """Return rows as the data of a chart, inline."""
    data: altair.Data = library().Data(values=[dict(row) for row in values])
    return data


def categories(names: Iterable[str]) -> list[str]:
    """Return the distinct names in their order."""
    return list(dict.fromkeys(names))


def colours_of(names: Sequence[str]) -> altair.Scale:
    """Return the scale that gives each category its colour, in the given order."""
    scale: altair.Scale = library().Scale(
        domain=list(names), range=[COLOURS[at % len(COLOURS)] for at in range(len(names))]
    )
    return scale


def shapes_of(names: Sequence[str]) -> altair.Scale:
    """Return the scale that gives each category its mark, in the given order."""
    scale: altair.Scale = library().Scale(
        domain=list(names), range=[SHAPES[at % len(SHAPES)] for at in range(len(names))]
    )
    return scale


def finished(chart: ChartType, title: str, *lines: str) -> ChartType:
    """Return a chart with its title, lines below it, and the style of all charts."""
    alt = library()
    styled: ChartType = (
        chart.properties(title=alt.TitleParams(title, subtitle=[line for line in lines if line]))
        .configure(background=PAPER, font=FONT, padding=12)
        .configure_view(stroke=None)
        .configure_title(
            anchor="start",
            frame="bounds",
            fontSize=16,
            subtitleFontSize=12,
            subtitleLineHeight=16,
            offset=14,
            color=INK,
            subtitleColor=INK,
        )
        .configure_axis(
            labelFontSize=11,
            titleFontSize=12,
            titleFontWeight="normal",
            labelLimit=340,
            titleLimit=600,
            gridColor=PALE,
            domainColor=INK,
            tickColor=INK,
            labelColor=INK,
            titleColor=INK,
        )
        .configure_legend(
            labelFontSize=11,
            titleFontSize=11,
            titleFontWeight="bold",
            labelLimit=340,
            titleLimit=340,
            symbolSize=110,
            labelColor=INK,
            titleColor=INK,
        )
        .configure_header(labelFontSize=12, titleFontSize=12, labelColor=INK, titleColor=INK, labelLimit=600)
    )
    return styled
