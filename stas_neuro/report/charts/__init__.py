"""Every picture of the project, as a Vega-Lite chart through Altair.

A function makes one picture from results, and returns an Altair chart: notebooks show it, `write_chart`
writes it as SVG or PNG, and the page of `stas-export report` draws it. Each has a title, what was run, units,
a complete legend and the basis of its figures. The functions import Altair when they are called, and raise
InputError without it.
"""

from stas_neuro.report.charts.breakdown import cores_chart, layers_chart, steps_chart
from stas_neuro.report.charts.core_work import core_work_chart
from stas_neuro.report.charts.costs import costs_chart
from stas_neuro.report.charts.files import chart_output, check_installed, write_chart
from stas_neuro.report.charts.frontier import frontier_chart
from stas_neuro.report.charts.halting import exits_chart, halting_chart
from stas_neuro.report.charts.placement import placement_chart
from stas_neuro.report.charts.savings import savings_chart

__all__ = [
    "chart_output",
    "check_installed",
    "core_work_chart",
    "cores_chart",
    "costs_chart",
    "exits_chart",
    "frontier_chart",
    "halting_chart",
    "layers_chart",
    "placement_chart",
    "savings_chart",
    "steps_chart",
    "write_chart",
]
