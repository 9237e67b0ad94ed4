"""Reports for people: tables for the terminal; pictures are in `stas_neuro.report.charts`."""

from stas_neuro.display import si
from stas_neuro.report.comparison import comparison_csv, comparison_report, csv_output, schedules_report
from stas_neuro.report.tables import estimate_report, predictions_table
from stas_neuro.report.what_if import cannot_take, comparison_what_if, what_if_lines
from stas_neuro.report.widths import widths_report

__all__ = [
    "cannot_take",
    "comparison_csv",
    "comparison_report",
    "comparison_what_if",
    "csv_output",
    "estimate_report",
    "predictions_table",
    "schedules_report",
    "si",
    "what_if_lines",
    "widths_report",
]
