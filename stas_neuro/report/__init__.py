"""Reports for people: tables for the terminal, and pictures of where tokens halt."""

from stas_neuro.report.chart import savings_chart, write_savings_chart
from stas_neuro.report.comparison import comparison_csv, comparison_report, csv_output, schedules_report
from stas_neuro.report.picture import halting_map, write_halting_map
from stas_neuro.report.png import picture_output
from stas_neuro.report.tables import estimate_report, predictions_table, si
from stas_neuro.report.what_if import cannot_take, comparison_what_if, what_if_lines
from stas_neuro.report.widths import widths_report

__all__ = [
    "cannot_take",
    "comparison_csv",
    "comparison_report",
    "comparison_what_if",
    "csv_output",
    "estimate_report",
    "halting_map",
    "picture_output",
    "predictions_table",
    "savings_chart",
    "schedules_report",
    "si",
    "what_if_lines",
    "widths_report",
    "write_halting_map",
    "write_savings_chart",
]
