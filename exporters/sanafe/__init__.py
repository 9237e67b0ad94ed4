"""SANA-FE, a simulator of neuromorphic chips: a mapped network and a chip's constants as its YAML files.

SANA-FE is an outside program (GPL-3.0): nothing here imports it, and what is written runs with it alone.
"""

from stas_neuro.exporters.sanafe.architecture import Architecture
from stas_neuro.exporters.sanafe.network import HOST_GROUPS, group_name, refusals
from stas_neuro.exporters.sanafe.package import RESULT_FILE, RUN_FILE, write_package

__all__ = [
    "HOST_GROUPS",
    "RESULT_FILE",
    "RUN_FILE",
    "Architecture",
    "group_name",
    "refusals",
    "write_package",
]
