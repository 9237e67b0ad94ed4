"""SANA-FE, a simulator of neuromorphic chips: a mapped network and a chip's constants as its YAML files.

SANA-FE is an outside program (GPL-3.0): nothing here imports it, and what is written runs with it alone.
"""

from stas_neuro.exporters.sanafe.architecture import Architecture
from stas_neuro.exporters.sanafe.network import HOST_GROUPS, group_name
from stas_neuro.exporters.sanafe.package import RESULT_FILE, RUN_FILE, package_output, write_package
from stas_neuro.exporters.sanafe.support import cannot_say, refusals

__all__ = [
    "HOST_GROUPS",
    "RESULT_FILE",
    "RUN_FILE",
    "Architecture",
    "cannot_say",
    "group_name",
    "package_output",
    "refusals",
    "write_package",
]
