"""SANA-FE, a simulator of neuromorphic chips: a mapped network and a chip's constants as its YAML files.

SANA-FE is an outside program (GPL-3.0): nothing here imports it, and what is written runs with it alone.
"""

from stas_neuro.exporters.sanafe.architecture import Architecture
from stas_neuro.exporters.sanafe.network import refusals
from stas_neuro.exporters.sanafe.package import write_package

__all__ = ["Architecture", "refusals", "write_package"]
