"""Pre-flight: everything that stands between a network and a chip, all at once."""

from stas_neuro.chips import Finding, Severity
from stas_neuro.preflight.findings import RESOURCES
from stas_neuro.preflight.verdict import Preflight, Verdict, check

__all__ = ["RESOURCES", "Finding", "Preflight", "Severity", "Verdict", "check"]
