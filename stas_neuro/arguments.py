"""Arguments of the public functions: any form of a network, data, a run or a profile, and their checks.

The functions of ``stas_neuro`` take a path (str or Path), a name or an object for the same argument. Each
argument is brought into the form that its function uses, or refused with an `InputError`, before any work.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import wraps
from pathlib import Path
from typing import Any

from stas_neuro.choices import (
    ARITHMETICS,
    GATINGS,
    GOALS,
    GRANULARITIES,
    HALT_MODES,
    MODES,
    OBJECTIVES,
    RUNTIMES,
    SCHEDULES,
    SPREADS,
    STRATEGIES,
)
from stas_neuro.errors import InputError, unknown
from stas_neuro.kinds import FLAG, FUNCTION, PATH, TEXT, Kind, Take, number, one_of, optional, refused, whole

_NETWORK = "a Graph, a Bundle, a StasModel, the path of one, or the name of a shipped model"


def checked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a public function whose arguments are checked, and may have any form.

    Raises
    ------
    KeyError
        When the module has no kind for one of its parameters.
    """
    signature = inspect.signature(function)
    kinds = {
        parameter: _WORDS[name] if given.kind is given.VAR_KEYWORD else _kind(name, parameter)
        for parameter, given in signature.parameters.items()
    }

    @wraps(function)
    def call(*positional: Any, **words: Any) -> Any:
        try:
            bound = signature.bind(*positional, **words)
        except TypeError as error:
            raise _unbound(name, signature, words, error) from None
        for parameter, value in bound.arguments.items():
            bound.arguments[parameter] = kinds[parameter](parameter, value)
        return function(*bound.args, **bound.kwargs)

    call.__module__, call.__qualname__ = "stas_neuro", name  # where it is found, also by pickle
    return call


def _unbound(
    name: str, signature: inspect.Signature, words: Mapping[str, Any], error: TypeError
) -> InputError:
    """Return the error for arguments that a function does not have, or lacks."""
    for word in words:
        if word not in signature.parameters:
            return unknown(f"argument of {name}", word, list(signature.parameters))
    return InputError(f"{name}: {error}", f"call it as {name}{signature}".replace("stas_neuro.", ""))


def _kind(name: str, parameter: str) -> Take:
    return _KINDS.get(f"{name}.{parameter}") or _KINDS[parameter]


# Networks -----------------------------------------------------------------------------------------------


def _model(name: str, value: Any) -> Any:
    """Return a model as it is; of the name of a shipped model its path."""
    from stas_neuro.bundle import Bundle
    from stas_neuro.importers import find_model
    from stas_neuro.importers.weights import Weights
    from stas_neuro.ir import Graph

    if isinstance(value, str | Path):
        return find_model(value)
    if not isinstance(value, Graph | Bundle | Weights) and not _is_model(value):
        raise refused(name, value, _NETWORK)
    return value


def _is_model(value: Any) -> bool:
    """Return whether a value is a StasModel, which only who has imported torch can have."""
    module = sys.modules.get("stas_neuro.models.stas")
    return module is not None and isinstance(value, module.StasModel)


def _source(name: str, value: Any) -> Any:
    """Return what an importer may read: also modules of torch."""
    from stas_neuro.importers import find_model

    if value is None or isinstance(value, bool | int | float | bytes):
        raise refused(name, value, f"a torch module, {_NETWORK}")
    return find_model(value) if isinstance(value, str | Path) else value


def _trained(name: str, value: Any) -> Any:
    """Return what is trained: also a configuration, or the name of a preset."""
    from stas_neuro.importers import find_model
    from stas_neuro.models.config import PRESETS, StasConfig

    if isinstance(value, str | Path):
        return find_model(value, *PRESETS)
    return value if isinstance(value, StasConfig) else _model(name, value)


def _checkpoint(name: str, value: Any) -> Any:
    """Return a checkpoint: a StasModel, or the path of a directory that is one."""
    from stas_neuro.compiler import is_checkpoint

    value = _model(name, value)
    if isinstance(value, str | Path) and not is_checkpoint(value):
        raise InputError(f"{value} is not a checkpoint", "give a directory written by training")
    if not isinstance(value, str | Path) and not _is_model(value):
        raise refused(name, value, "a StasModel, or the directory of a checkpoint")
    return value


def _bundle(name: str, value: Any) -> Any:
    from stas_neuro.bundle import Bundle, load_bundle

    if isinstance(value, str | Path):
        return load_bundle(value)
    if not isinstance(value, Bundle):
        raise refused(name, value, "a Bundle, or the path of one")
    return value


def _runnable(name: str, value: Any) -> Any:
    """Return a Graph or a Bundle; compile any other network, in floats."""
    from stas_neuro.bundle import Bundle, is_bundle, load_bundle
    from stas_neuro.compiler import compile
    from stas_neuro.ir import Graph

    value = _model(name, value)
    if isinstance(value, str | Path) and is_bundle(value):
        return load_bundle(value)
    return value if isinstance(value, Graph | Bundle) else compile(value)


def _float_graph(name: str, value: Any) -> Any:
    """Return a graph that is not quantised, of any network."""
    from stas_neuro.bundle import Bundle

    value = _runnable(name, value)
    return value.graph if isinstance(value, Bundle) else value


def _placed_graph(name: str, value: Any) -> Any:
    """Return the graph that is placed on cores: the integer program, where a network has one."""
    from stas_neuro.bundle import Bundle

    value = _runnable(name, value)
    return (value.quantised or value.graph) if isinstance(value, Bundle) else value


def _foldable(name: str, value: Any) -> Any:
    """Return a Graph or a model: of a bundle and of released weights their float graph."""
    from stas_neuro.bundle import Bundle, is_bundle, load_bundle
    from stas_neuro.importers.weights import Weights

    value = _model(name, value)
    if isinstance(value, str | Path) and is_bundle(value):
        value = load_bundle(value)
    return value.graph if isinstance(value, Bundle | Weights) else value


def _models(name: str, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise refused(name, value, "models by label, as {'stage 1': 'runs/mine/stage1'}")
    return {TEXT("a label", label): _model(f"{name} {label}", model) for label, model in value.items()}


# Data and runs ------------------------------------------------------------------------------------------


def _images(split: str) -> Take:
    """Accept images in any form; of a data set that has a name, those of a split."""

    def take(name: str, value: Any) -> Any:
        from stas_neuro.data import load_data

        if value is None or isinstance(value, bool | int | float | bytes):
            raise refused(name, value, "images, a path, or the name of a data set")
        return load_data(value, split)

    return take


def _activity(name: str, value: Any) -> Any:
    """Return an activity; of a run its own, of a path what a run wrote there."""
    from stas_neuro.activity import Activity
    from stas_neuro.cli.runs import read_run
    from stas_neuro.trace import Trace

    if isinstance(value, Trace):
        return value.activity
    if isinstance(value, str | Path):
        return read_run(Path(value))
    if not isinstance(value, Activity):
        raise refused(name, value, "an Activity, a Trace, or the path of a run or of an activity file")
    return value


def _runs(name: str, value: Any) -> Any:
    """Return activities by label; of a single run, the label is the name of its directory."""
    if isinstance(value, Mapping):
        return {TEXT("a label", label): _activity(f"{name} {label}", run) for label, run in value.items()}
    label = Path(value).name if isinstance(value, str | Path) else "the baseline"
    return {label: _activity(name, value)}


def _reported(name: str, value: Any) -> Any:
    """Return runs of a page: of a path, what a run wrote there."""
    from stas_neuro.cli.runs import labelled_run
    from stas_neuro.page import Run
    from stas_neuro.trace import Trace

    if isinstance(value, list | tuple) and value and all(isinstance(run, Run) for run in value):
        return value
    if not isinstance(value, Mapping):
        raise refused(name, value, "runs by label, as {'halting': 'runs/halting', 'stage 1': trace}")
    found = []
    for label, run in value.items():
        if isinstance(run, str | Path):
            found.append(labelled_run(TEXT("a label", label), Path(run)))
        else:
            predictions = run.predictions if isinstance(run, Trace) else None
            activity = _activity(f"{name} {label}", run)
            found.append(Run(label=TEXT("a label", label), activity=activity, predictions=predictions))
    return found


def _frontiers(name: str, value: Any) -> Any:
    """Return results of searches: of a path, those that `optimise` wrote there."""
    from stas_neuro.report.frontier_file import Frontier, read_frontiers

    take = _instance(
        "results of optimise, or paths of its output",
        lambda: (Frontier, *_of("optimiser", "Optimised")()),
    )
    found: list[Any] = []
    for each in _ITEMS(name, value):
        found += read_frontiers(Path(each)) if isinstance(each, str | Path) else [take(name, each)]
    return found


def _certificates(name: str, value: Any) -> Any:
    """Return certificates: of a path, the document that `verify` wrote there."""
    from stas_neuro.verifier.certificate import read_certificate

    take = _instance(
        "certificates, their documents, or paths of them",
        lambda: (Mapping, *_of("verifier.certificate", "Verification")()),
    )
    return [
        read_certificate(Path(each)) if isinstance(each, str | Path) else take(name, each)
        for each in _ITEMS(name, value)
    ]


def _numbers(name: str, value: Any) -> Any:
    return [whole(0)(name, each) for each in _ITEMS(name, value)]


# Chips --------------------------------------------------------------------------------------------------


def _profile(name: str, value: Any) -> Any:
    from stas_neuro.chips import load_profile

    return load_profile(value)


def _profiles(name: str, value: Any) -> Any:
    from stas_neuro.chips import load_profiles

    return load_profiles(value)


def _integers(name: str, value: Any) -> Any:
    """Return the arithmetic of a chip, given as such or by its profile."""
    from stas_neuro.chips import Arithmetic, load_profile

    if isinstance(value, Arithmetic):
        return value
    chip = load_profile(value)
    if chip.arithmetic is None:
        raise InputError(
            f"{chip.name} has no integer arithmetic: {chip.no_arithmetic}", "use loihi1 or loihi2"
        )
    return chip.arithmetic


# Others -------------------------------------------------------------------------------------------------


def _instance(wanted: str, load: Callable[[], type | tuple[type, ...]]) -> Take:
    """Accept objects of a class, which is imported when it is needed."""

    def take(name: str, value: Any) -> Any:
        if not isinstance(value, load()):
            raise refused(name, value, wanted)
        return value

    return take


def _of(module: str, *names: str) -> Callable[[], tuple[type, ...]]:
    def load() -> tuple[type, ...]:
        from importlib import import_module

        return tuple(getattr(import_module(f"stas_neuro.{module}"), name) for name in names)

    return load


def _path(name: str, value: Any) -> Path:
    return Path(PATH(name, value))


def _config(name: str, value: Any) -> Any:
    """Return the file of a sweep, or its content."""
    return value if isinstance(value, Mapping) else _path(name, value)


def _mapping(name: str, value: Any) -> Any:
    if value is None or (isinstance(value, str) and value == "bundle"):
        return value
    return _instance("a Mapping, None or 'bundle'", _of("mapping", "Mapping"))(name, value)


def _halting(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return one_of(HALT_MODES)(name, value)
    return _instance("a halting policy or AddHalting", _of("passes", "AddHalting"))(name, value)


def _dtype(name: str, value: Any) -> Any:
    from stas_neuro.api import precision_of

    return precision_of(value)


def _backend(name: str, value: Any) -> Any:
    from stas_neuro.backends import AUTO, BACKENDS

    own = (AUTO, *BACKENDS.own)
    if isinstance(value, str) and value in own:
        return value  # without a search through all packages, which takes longer than a run of some images
    return one_of((AUTO, *BACKENDS.names()))(name, value)


def _importer(name: str, value: Any) -> Any:
    from stas_neuro.importers import IMPORTERS

    return one_of(IMPORTERS.names())(name, value)


def _entries(name: str, value: Any) -> Any:
    from stas_neuro.chips.entries import ENTRIES

    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise refused(name, value, "names of entries, as ['energy.synaptic_operation']")
    return [one_of(ENTRIES)(name, each) for each in value]


def _overlooked(name: str, value: Any) -> Any:
    """Accept anything: the function itself refuses what it does not know."""
    return value


def _options(name: str, value: Any, *known: str) -> Any:
    """Refuse names of options that do not exist; their values are checked by the options."""
    for word in value:
        if word not in known:
            raise unknown("option", word, known)
    return value


def _fields(module: str, cls: str, *more: str) -> Take:
    def take(name: str, value: Any) -> Any:
        (found,) = _of(module, cls)()
        return _options(name, value, *(field.name for field in fields(found)), *more)

    return take


_ITEMS = Kind("a list", lambda value: isinstance(value, list | tuple | range))
_PARTS = Kind("an object that keeps parts of a run (api.RunParts)", lambda value: hasattr(value, "known"))
_RECORD = Kind("passes, each a mapping", lambda value: isinstance(value, list | tuple))
_WORDS: Mapping[str, Take] = {
    "compile": _fields("compiler", "CompileOptions"),
    "load_model": lambda name, value: _options(name, value, "alpha", "beta", "margin", "summed"),
    "open_model": _fields("importers", "ImportOptions"),
    "open_weights": _fields("importers.weights", "WeightsOptions"),
    "provenance": _overlooked,
    "train": lambda name, value: _train_words(name, value),
}
"""Kinds of the further keywords of functions."""


def _train_words(name: str, value: Any) -> Any:
    from stas_neuro.models.config import StasConfig
    from stas_neuro.training.options import TrainOptions

    return _options(name, value, *(each.name for cls in (TrainOptions, StasConfig) for each in fields(cls)))


_KINDS: Mapping[str, Take] = {
    "accumulate": optional(TEXT),
    "activity": _activity,
    "arithmetic": one_of(ARITHMETICS),
    "backend": _backend,
    "baseline": optional(_instance("a Deployment", _of("energy", "Deployment"))),
    "baselines": _runs,
    "bits": whole(2, 9),
    "bundle": _bundle,
    "calibrate": optional(_images("train")),
    "certificates": _certificates,
    "checkpoint": _checkpoint,
    "chosen": optional(FUNCTION),
    "confidence": number(0, 1),
    "config": _config,
    "cores": optional(whole(1)),
    "data": _images("test"),
    "deadline_s": number(0),
    "deployment": _instance("a Deployment", _of("energy", "Deployment")),
    "directory": _path,
    "dtype": _dtype,
    "encoding": one_of(("graded", "bias", "spikes")),
    "epsilon": optional(number()),
    "extends": optional(PATH),
    "fit": optional(_entries),
    "folder": optional(_path),
    "force": FLAG,
    "frontiers": _frontiers,
    "gating": one_of(tuple(GATINGS)),
    "granularity": one_of(GRANULARITIES),
    "graph": _float_graph,
    "groups": optional(whole(1)),
    "halting": optional(_halting),
    "images": _images("test"),
    "importer": optional(_importer),
    "init": optional(_checkpoint),
    "held_back": optional(_images("train")),
    "jobs": whole(1),
    "label": TEXT,
    "late": optional(whole(1)),
    "lava_network": optional(_instance("a Graph", _of("ir", "Graph"))),
    "limit": optional(whole(1)),
    "mapping": _mapping,
    "max_drop": optional(number(0, 1)),
    "max_visits": optional(whole(0)),
    "measurements": _instance(
        "Measurements, or the path of a CSV file",
        lambda: (str, Path, *_of("energy.measurements", "Measurements")()),
    ),
    "min_accuracy": optional(number(0, 1)),
    "minimise": one_of((*SPREADS, *OBJECTIVES)),
    "mode": one_of(tuple(MODES)),
    "model": _model,
    "multiprocess": FLAG,
    "network": _model,
    "note": optional(FUNCTION),
    "objective": one_of(tuple(GOALS)),
    "options": optional(_overlooked),
    "parts": optional(_PARTS),
    "passes": _RECORD,
    "path": PATH,
    "per_image": FLAG,
    "points": whole(1),
    "profile": _profile,
    "profiles": _profiles,
    "progress": optional(FUNCTION),
    "provenance": optional(_instance("a Provenance", _of("bundle", "Provenance"))),
    "quantised": optional(_instance("a Graph", _of("ir", "Graph"))),
    "readout": optional(TEXT),
    "record_spikes": FLAG,
    "record_states": FLAG,
    "report": optional(FUNCTION),
    "resume": FLAG,
    "retry": FLAG,
    "rivals": optional(_models),
    "runtime": one_of(RUNTIMES),
    "sample": optional(_images("train")),
    "schedule": one_of(SCHEDULES),
    "scheduler": optional(TEXT),
    "seen": optional(_activity),
    "source": TEXT,
    "space": optional(_instance("a Space", _of("optimiser", "Space"))),
    "split": one_of(("train", "test")),
    "strategy": one_of(STRATEGIES),
    "time_steps": optional(whole(1)),
    "token_groups": optional(whole(0)),
    "values": optional(_instance("values by entry", lambda: (Mapping,))),
    "variants": FLAG,
    # Where the name of a parameter means something else in a function.
    "calibrate.profile": _overlooked,
    "check.bits": optional(whole(2, 9)),
    "choose_halting.images": _images("train"),
    "choose_halting.limit": whole(2),
    "choose_halting.max_drop": number(0, 1),
    "choose_halting.mode": one_of(HALT_MODES),
    "compile.options": optional(_instance("CompileOptions", _of("compiler", "CompileOptions"))),
    "fold.model": _foldable,
    "load_bundle.path": _overlooked,
    "load_data.data": _overlooked,
    "load_data.spec": _overlooked,
    "load_model.model": _checkpoint,
    "lower.model": _checkpoint,
    "make_baselines.max_drop": number(0, 1),
    "make_baselines.options": optional(_instance("RunOptions", _of("baselines", "RunOptions"))),
    "make_report.data": optional(_images("test")),
    "make_report.images": optional(_numbers),
    "make_report.profile": optional(_profile),
    "make_report.profiles": optional(_profiles),
    "make_report.runs": _reported,
    "open_model.source": _source,
    "open_weights.options": optional(_instance("WeightsOptions", _of("importers.weights", "WeightsOptions"))),
    "place.graph": _placed_graph,
    "quantise.arithmetic": optional(_integers),
    "read_activity.path": _activity,
    "run.network": _runnable,
    "save_bundle.graph": _overlooked,
    "save_bundle.mapping": optional(_instance("a Mapping", _of("mapping", "Mapping"))),
    "sweep.jobs": optional(whole(1)),
    "train.bits": optional(whole(2, 9)),
    "train.data": _images("train"),
    "train.network": _trained,
    "train.options": optional(_instance("TrainOptions", _of("training.options", "TrainOptions"))),
    "train.report": FUNCTION,
    "verify.arithmetic": one_of(("all", *ARITHMETICS)),
    "verify.model": optional(_checkpoint),
}
"""Kinds of arguments by the name of the parameter, or by "function.parameter"."""
