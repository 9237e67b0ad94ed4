"""Rewrites of graphs, each a small named pass, and the driver that runs them."""

from stas_neuro.passes.driver import Pass, PassError, run_passes
from stas_neuro.passes.fold import FoldBatchNorm

__all__ = ["FoldBatchNorm", "Pass", "PassError", "run_passes"]
