"""The one door to Lava: every Lava name used here, imported after the module that mends it.

Raises
------
ImportError
    On import: Lava is not installed, or the installed numpy is too new for it.
"""

from __future__ import annotations

from stas_neuro.exporters.lava import compat as compat

# isort: split
from lava.magma.compiler.builders.channel_builder import ChannelBuilderMp
from lava.magma.compiler.builders.py_builder import PyProcessBuilder
from lava.magma.compiler.executable import Executable
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.message_interface_enum import ActorType
from lava.magma.core.process.ports.ports import InPort, OutPort, create_port_id
from lava.magma.core.process.process import AbstractProcess, ProcessServer
from lava.magma.core.resources import CPU
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import RunConfig
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.magma.runtime.message_infrastructure.multiprocessing import MultiProcessing
from lava.magma.runtime.runtime import Runtime

__all__ = [
    "CPU",
    "AbstractProcess",
    "ActorType",
    "ChannelBuilderMp",
    "Executable",
    "InPort",
    "LavaPyType",
    "LoihiProtocol",
    "MultiProcessing",
    "OutPort",
    "ProcessServer",
    "PyInPort",
    "PyLoihiProcessModel",
    "PyOutPort",
    "PyProcessBuilder",
    "RunConfig",
    "RunSteps",
    "Runtime",
    "create_port_id",
    "implements",
    "requires",
    "tag",
]
