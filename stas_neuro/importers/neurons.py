"""The neurons of a module, found by the qualified names of their classes.

No library must be installed: a class is identified by its package and name, and its attributes are read as
plain floats before the module is traced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from stas_neuro.importers.errors import Refused
from stas_neuro.importers.libraries import READERS, UNKNOWN
from stas_neuro.importers.neuron import Neuron, Reader
from stas_neuro.ir import Problems

Own = Mapping[type[nn.Module], Neuron | Reader]
"""A user's own classes of neurons."""


@dataclass(frozen=True)
class FoundNeuron:
    """A module that is a neuron, and its path."""

    path: str
    module: nn.Module
    neuron: Neuron


def find_neurons(module: nn.Module, own: Own, problems: Problems) -> tuple[FoundNeuron, ...]:
    """Find all neurons of a module; add a problem for each that cannot be read."""
    found = []
    for path, each in module.named_modules():
        try:
            neuron = _read(each, own)
        except Refused as refused:
            problems.add(path or "module", refused.what, refused.remedy)
            continue
        if neuron is not None:
            found.append(FoundNeuron(path, each, neuron))
    return tuple(found)


def _read(module: nn.Module, own: Own) -> Neuron | None:
    cls = type(module)
    if cls in own:
        given = own[cls]
        return given if isinstance(given, Neuron) else given(module)
    added: list[type] = []
    for base in cls.__mro__:
        package = base.__module__.partition(".")[0]
        reader = READERS.get(package, {}).get(base.__name__)
        if reader is not None:
            _refuse_changes(cls, added, base)
            return reader(module)
        if package in UNKNOWN and UNKNOWN[package](base):
            known = ", ".join(READERS[package])
            raise Refused(
                f"{base.__qualname__} of {package} is not a supported neuron", f"use one of {known}"
            )
        added.append(base)
    return None


def _refuse_changes(cls: type, added: list[type], base: type) -> None:
    """Refuse a class that may compute something else than the known class it derives from."""
    harmless = ("__init__", "__module__", "__doc__", "__qualname__", "extra_repr", "__annotations__")
    for each in added:
        changed = [name for name, it in vars(each).items() if callable(it) and name not in harmless]
        if changed:
            what = f"{cls.__qualname__} is a {base.__qualname__} with its own {', '.join(changed)}"
            raise Refused(what, "describe what it computes in the option `neurons`")
