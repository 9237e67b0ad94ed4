"""The page that ``stas-export report`` writes: prices of runs and everything behind them, in one file."""

from stas_neuro.page.driver import MOST_IMAGES, Report, make_report, page_output
from stas_neuro.page.runs import Run

__all__ = ["MOST_IMAGES", "Report", "Run", "make_report", "page_output"]
