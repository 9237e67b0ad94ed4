"""Lower trained spatio-temporally adaptive spiking transformers to Loihi-class programs and price them.

The public functions are attributes of this package, each imported when it is first used::

    import stas_neuro

    bundle = stas_neuro.compile("runs/digits")
    trace = stas_neuro.run(bundle, stas_neuro.load_data("digits"), backend="lava")
    print(stas_neuro.estimate(trace.activity, "loihi2").energy_j)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from stas_neuro.activity import read_activity, write_activity
    from stas_neuro.api import run
    from stas_neuro.baselines import make_baselines
    from stas_neuro.bundle import load_bundle, save_bundle
    from stas_neuro.checker import check
    from stas_neuro.chips import list_profiles, load_profile
    from stas_neuro.cli.sweep_steps import sweep
    from stas_neuro.compiler import (
        CompileOptions,
        choose_halting,
        compile,
        fold,
        load_model,
        lower,
        open_model,
        provenance,
        quantise,
        replay,
    )
    from stas_neuro.data import load_data
    from stas_neuro.energy import Deployment, estimate
    from stas_neuro.energy.calibration import calibrate
    from stas_neuro.energy.compare import compare
    from stas_neuro.importers.weights import WeightsOptions, open_weights
    from stas_neuro.optimiser import optimise
    from stas_neuro.page import make_report
    from stas_neuro.passes import schedule_decisions
    from stas_neuro.placement import place
    from stas_neuro.training.driver import train
    from stas_neuro.verifier import verify

_PUBLIC = {
    "CompileOptions": "compiler",
    "Deployment": "energy",
    "WeightsOptions": "importers.weights",
    "calibrate": "energy.calibration",
    "check": "checker",
    "choose_halting": "compiler",
    "compare": "energy",
    "compile": "compiler",
    "estimate": "energy",
    "fold": "compiler",
    "list_profiles": "chips",
    "load_bundle": "bundle",
    "load_data": "data",
    "load_model": "compiler",
    "load_profile": "chips",
    "lower": "compiler",
    "make_baselines": "baselines",
    "make_report": "page",
    "open_model": "compiler",
    "open_weights": "importers.weights",
    "optimise": "optimiser",
    "place": "placement",
    "provenance": "compiler",
    "quantise": "compiler",
    "read_activity": "activity",
    "replay": "compiler",
    "run": "api",
    "save_bundle": "bundle",
    "schedule_decisions": "passes",
    "sweep": "cli.sweep_steps",
    "train": "training.driver",
    "verify": "verifier",
    "write_activity": "activity",
}
"""Module of each public function; importing the package does not import these modules."""

__all__ = [
    "CompileOptions",
    "Deployment",
    "WeightsOptions",
    "calibrate",
    "check",
    "choose_halting",
    "compare",
    "compile",
    "estimate",
    "fold",
    "list_profiles",
    "load_bundle",
    "load_data",
    "load_model",
    "load_profile",
    "lower",
    "make_baselines",
    "make_report",
    "open_model",
    "open_weights",
    "optimise",
    "place",
    "provenance",
    "quantise",
    "read_activity",
    "replay",
    "run",
    "save_bundle",
    "schedule_decisions",
    "sweep",
    "train",
    "verify",
    "write_activity",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    if not isinstance(found, type):  # options check themselves
        found = importlib.import_module(f"{__name__}.arguments").checked(name, found)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
