"""Loads a file of weights into a module of the user: all tensors must fit by name, shape and dtype."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from stas_neuro.errors import InputError
from stas_neuro.importers.weights import FileReport
from stas_neuro.importers.weights_file import FLOATS, open_state
from stas_neuro.importers.weights_pickle import Form
from stas_neuro.importers.weights_unwrap import unwrapped
from stas_neuro.models.checkpoint import COUNTER, WRAPPERS
from stas_neuro.models.tensors import unfit

_REMEDY = "give weights of this module, or return the module that they belong to"


def load_weights(module: nn.Module, path: Path, averaged: bool) -> FileReport:
    """Load a state_dict, or with `averaged` the moving average of it; no code in the file runs.

    Names may have the prefixes of wrappers, and one more that all names of the module have in the file. If a
    tensor in the file is float64, the module becomes float64: no value is narrowed. Batch counters, which
    evaluation does not use, may be missing.

    Raises
    ------
    InputError
        If the file is damaged or contains code, or its tensors are not those of the module: `lines` has each
        that is missing, surplus, or of another shape or dtype.
    """
    file, taken = open_state(path, averaged)
    own = module.state_dict()
    prefix, found = _matched(taken.keys.values(), own)
    forms = {taken.keys[name]: form for name, form in taken.forms.items()}
    used = set(found.values())
    problems = [f"missing: {name}" for name in own if name not in found and not name.endswith(COUNTER)]
    problems += [f"surplus: {key}" for key in forms if key not in used]
    problems += [
        f"unlike: {text}" for name, key in found.items() for text in _unlike(key, forms[key], own[name])
    ]
    _refuse(path, problems)
    loaded = file.load(taken.place, used)
    _refuse(path, [f"values: {text}" for key, tensor in loaded.items() for text in unfit(key, tensor)])
    if any(tensor.dtype == torch.float64 for tensor in loaded.values()):
        module.double()
    try:
        module.load_state_dict({name: loaded[key] for name, key in found.items()}, strict=False)
    except RuntimeError as error:
        raise InputError(
            f"{path} does not fit the module: {' '.join(str(error).split())}", _REMEDY
        ) from error
    return FileReport(
        kind=file.kind,
        entry=".".join(taken.place),
        averaged=taken.averaged,
        beside=taken.beside,
        averages=taken.averages,
        removed=_removed(prefix, found),
    )


def _matched(keys: Iterable[str], own: Iterable[str]) -> tuple[str, Mapping[str, str]]:
    """Return what names in the file begin with, and the key of each name of the module.

    Wrappers inside names are left out on both sides, since a module may have a part with the name of one.
    """
    held = {unwrapped(key): key for key in keys}
    wanted = {unwrapped(name): name for name in own}
    starts = Counter(
        name[:start]
        for name in held
        for start in (0, *(index + 1 for index, letter in enumerate(name) if letter == "."))
        if name[start:] in wanted
    )
    prefix = max(starts, key=lambda start: (starts[start], -len(start)), default="")
    return prefix, {name: held[prefix + short] for short, name in wanted.items() if prefix + short in held}


def _removed(prefix: str, found: Mapping[str, str]) -> tuple[str, ...]:
    wrappers = {part for name, key in found.items() for part in {*key.split(".")} - {*name.split(".")}}
    return tuple(sorted({f"{part}." for part in WRAPPERS if part in wrappers} | ({prefix} - {""})))


def _unlike(key: str, form: Form, own: Tensor) -> list[str]:
    """Return what the shape and dtype of a tensor in the file are not."""
    texts = []
    if form.shape != tuple(own.shape):
        texts.append(f"{key} has shape {form.shape}, not {tuple(own.shape)}")
    allowed = FLOATS if own.is_floating_point() else (str(own.dtype).removeprefix("torch."),)
    if form.dtype not in allowed:
        texts.append(f"{key} is {form.dtype}, not {' or '.join(allowed)}")
    return texts


def _refuse(path: Path, problems: list[str]) -> None:
    if not problems:
        return
    counts = Counter(problem.partition(":")[0] for problem in problems)
    words = {"unlike": "of another shape or dtype", "values": "with such values"}
    what = ", ".join(f"{count} {words.get(kind, kind)}" for kind, count in counts.items())
    error = InputError(f"{path} does not fit the module: {what} ({problems[0]})", _REMEDY)
    error.lines = tuple(problems)
    raise error
