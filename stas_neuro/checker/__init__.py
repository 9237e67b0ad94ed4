"""Pre-flight: everything that stands between a network and a chip, all at once."""

from stas_neuro.checker.driver import Preflight, Verdict, check
from stas_neuro.checker.findings import RESOURCES
from stas_neuro.chips import Finding, Severity

__all__ = ["RESOURCES", "Finding", "Preflight", "Severity", "Verdict", "check"]
