"""Checkpoint directories: ``config.json`` and ``model.safetensors``, without pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Container, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from stas_neuro.errors import InputError
from stas_neuro.files import json_object, parse_json, read_bytes, write_atomically
from stas_neuro.models.config import StasConfig
from stas_neuro.models.stas import StasModel
from stas_neuro.models.tensors import open_tensors

WRAPPERS = ("module", "_orig_mod")
"""Parts that torch adds to tensor names: DataParallel the first, torch.compile the second."""
COUNTER = "num_batches_tracked"
"""A tensor of each BatchNorm that is not used here: statistics are updated with a fixed momentum."""
CONFIG_LIMIT = 1 << 23
"""Largest size of a config.json in bytes, mostly for class names."""
_TRAINING = "training"
_GIVE = "use a checkpoint directory written by training"
_BELONG = "use the weights that belong to this config.json"


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """Training data of a checkpoint, stored in the metadata of its weights.

    Of ``images`` images, ``held_out`` were held out, drawn by the rule ``split`` with ``seed``;
    ``held_out_sha256`` is the hash of their pixels and labels.
    """

    images: int
    held_out: int
    split: str
    seed: int
    held_out_sha256: str


def save_checkpoint(model: StasModel, directory: Path, training: TrainingRecord | None = None) -> None:
    """Write weights and configuration, each file atomically."""
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
        If the file is missing, is not JSON, or describes an impossible model.
    """
    path = directory / "config.json"
    if directory.is_file():
        what = f"{directory} is a file, not a directory with a checkpoint of stas-neuro"
        raise InputError(what, "open released weights with --arch (open_weights), or give such a directory")
    if not os.path.lexists(path):
        raise InputError(f"{path} not found", remedy=_GIVE)
    return StasConfig.from_json(
        json_object(read_bytes(path, CONFIG_LIMIT), str(path), "restore the file"), str(path)
    )


def load_checkpoint(directory: Path) -> StasModel:
    """Load the model of a checkpoint, in evaluation mode, float32.

    Tensor names may have the prefixes of torch's wrappers (`WRAPPERS`), and the batch counters, which are not
    used, may be missing.

    Raises
    ------
    InputError
        If a file is missing or damaged, tensors do not fit the configuration, or a weight is not finite.
    """
    config = load_config(directory)
    path = directory / "model.safetensors"
    if not os.path.lexists(path):
        raise InputError(f"{path} not found", remedy=_GIVE)
    with open_tensors(path, "copy or train it again") as file:
        names, wanted = _unwrapped(file.forms, path), _layout(config)
        if prefix := _prefix(names, wanted):
            raise InputError(f"{path}: names of all tensors begin with {prefix!r}", "remove that prefix")
        for name in [name for name in wanted.keys() - names.keys() if name.endswith(f".{COUNTER}")]:
            del wanted[name]
        tensors = file.load(names, wanted, _BELONG)
    model = StasModel(config)
    model.load_state_dict(model.state_dict() | tensors)
    return model.eval()


def _layout(config: StasConfig) -> dict[str, Tensor]:
    """Return the tensors of a model by name, on the meta device: with shapes, but without memory."""
    with torch.device("meta"):
        tensors = StasModel(config.replace(depth=1)).state_dict()
    first = "blocks.0."
    blocks = {name.removeprefix(first): tensors[name] for name in tensors if name.startswith(first)}
    rest = {name: tensor for name, tensor in tensors.items() if not name.startswith(first)}
    return rest | {f"blocks.{l}.{name}": blocks[name] for l in range(config.depth) for name in blocks}


def load_training(directory: Path) -> TrainingRecord | None:
    """Read the training record of a checkpoint; None where it has none.

    Raises
    ------
    InputError
        If the file is damaged, or the record is invalid.
    """
    path, remedy = directory / "model.safetensors", "copy or train it again"
    with open_tensors(path, remedy) as file:
        text = file.metadata.get(_TRAINING)
    if text is None:
        return None
    return parse_json(TrainingRecord, text.encode(), f"{path}: metadata {_TRAINING}", remedy)


def _unwrapped(tensors: Iterable[str], path: Path) -> dict[str, str]:
    """Return the tensor names in the file, by their names in a model without torch's wrappers."""
    names: dict[str, str] = {}
    for given in sorted(tensors):
        name = ".".join(part for part in given.split(".") if part not in WRAPPERS)
        if name in names:
            raise InputError(f"{path}: {names[name]} and {given} are both {name}", "remove one of them")
        names[name] = given
    return names


def _prefix(names: Iterable[str], wanted: Container[str]) -> str:
    """Return a common prefix of all names without which some are names of the model; empty if none."""
    start = os.path.commonprefix(list(names))  # noqa: RUF071 - it is cut at a dot
    prefix = start[: start.rfind(".") + 1]
    return prefix if prefix and any(name.removeprefix(prefix) in wanted for name in names) else ""
