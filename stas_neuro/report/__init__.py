"""What a person reads: tables for the terminal, and pictures of where tokens halt."""

from stas_neuro.report.picture import halting_map, write_halting_map
from stas_neuro.report.tables import comparison_report, estimate_report, predictions_table, si

__all__ = [
    "comparison_report",
    "estimate_report",
    "halting_map",
    "predictions_table",
    "si",
    "write_halting_map",
]
