"""Checkpoint directories: ``config.json`` and ``model.safetensors``. Never pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from stas_neuro.errors import InputError
from stas_neuro.files import parse_json, write_atomically
from stas_neuro.models.config import StasConfig
from stas_neuro.models.stas import StasModel

WRAPPERS = ("module", "_orig_mod")
"""What torch puts into names of tensors: DataParallel the first, torch.compile the second."""
COUNTER = "num_batches_tracked"
"""A tensor of each BatchNorm that nothing here reads: statistics move by a fixed momentum."""
_TRAINING = "training"


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """What a checkpoint says of the images it was trained on, in the metadata of its weights.

    Of ``images`` images ``held_out`` were kept back, drawn by the rule ``split`` and ``seed``; the hash is
    that of their pixels and labels.
    """

    images: int
    held_out: int
    split: str
    seed: int
    held_out_sha256: str


def save_checkpoint(model: StasModel, directory: Path, training: TrainingRecord | None = None) -> None:
    """Write weights and configuration; each file appears whole or not at all."""
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    metadata = None if training is None else {_TRAINING: json.dumps(asdict(training))}
    write_atomically(directory / "model.safetensors", save(tensors, metadata))
    text = json.dumps(model.config.to_json(), indent=2) + "\n"
    write_atomically(directory / "config.json", text.encode())


def load_config(directory: Path) -> StasConfig:
    """Read the configuration of a checkpoint.

    Raises
    ------
    InputError
        If the file is missing, is not JSON, or describes no possible model.
    """
    path = directory / "config.json"
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputError(
            f"{path} not found", remedy="give a checkpoint directory written by training"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not JSON ({error})", remedy="restore the file") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: holds a {type(data).__name__}", remedy="restore the file")
    return StasConfig.from_json(data, str(path))


def load_checkpoint(directory: Path) -> StasModel:
    """Read a checkpoint as a model in evaluation mode, float32.

    The names of tensors may be those of a model that torch had wrapped (`WRAPPERS`), and the counters of
    batches, which nothing reads, may be missing.

    Raises
    ------
    InputError
        If a file is missing or damaged, tensors do not fit the configuration, or a weight is not finite.
    """
    model = StasModel(load_config(directory))
    path = directory / "model.safetensors"
    if not path.is_file():
        raise InputError(f"{path} not found", remedy="give a checkpoint directory written by training")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path}: damaged or truncated ({error})", remedy="copy or train it again"
        ) from error
    wanted = model.state_dict()
    tensors = _unwrapped(tensors, path)
    if prefix := _prefix(tensors, wanted):
        raise InputError(f"{path}: names of all tensors begin with {prefix!r}", "write them without it")
    tensors = {name: value for name, value in wanted.items() if name.endswith(f".{COUNTER}")} | tensors
    problems = [f"{name} is missing" for name in wanted.keys() - tensors.keys()]
    problems += [f"{name} is unknown" for name in tensors.keys() - wanted.keys()]
    for name in wanted.keys() & tensors.keys():
        if wanted[name].shape != tensors[name].shape:
            problems.append(f"{name} has shape {tuple(tensors[name].shape)}, not {tuple(wanted[name].shape)}")
        elif not torch.isfinite(tensors[name]).all():
            problems.append(f"{name} holds NaN or infinite values")
    if problems:
        shown = "; ".join(sorted(problems)[:5]) + ("; ..." if len(problems) > 5 else "")
        raise InputError(f"{path}: {shown}", remedy="give weights that belong to this config.json")
    model.load_state_dict(tensors)
    return model.eval()


def load_training(directory: Path) -> TrainingRecord | None:
    """Read what a checkpoint says of its training; None where it says nothing.

    Raises
    ------
    InputError
        If it is no such record.
    """
    path = directory / "model.safetensors"
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    if _TRAINING not in metadata:
        return None
    where = f"{path}: metadata {_TRAINING}"
    return parse_json(TrainingRecord, metadata[_TRAINING].encode(), where, "copy or train it again")


def _unwrapped(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Name tensors as the model does although torch had wrapped it, whole or in parts."""
    names: dict[str, str] = {}
    for given in sorted(tensors):
        name = ".".join(part for part in given.split(".") if part not in WRAPPERS)
        if name in names:
            raise InputError(f"{path}: {names[name]} and {given} are both {name}", "leave one of the two out")
        names[name] = given
    return {name: tensors[given] for name, given in names.items()}


def _prefix(names: Iterable[str], wanted: Container[str]) -> str:
    """Find what stands before all names, if those behind it are of the model; empty if there is no such."""
    start = os.path.commonprefix(list(names))  # noqa: RUF071 - it is cut at a dot
    prefix = start[: start.rfind(".") + 1]
    return prefix if prefix and any(name.removeprefix(prefix) in wanted for name in names) else ""
