"""Checkpoint directories: ``config.json`` and ``model.safetensors``. Never pickle."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from stas_neuro.errors import InputError
from stas_neuro.files import write_atomically
from stas_neuro.models.config import StasConfig
from stas_neuro.models.stas import StasModel


def save_checkpoint(model: StasModel, directory: Path) -> None:
    """Write weights and configuration; each file appears whole or not at all."""
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    write_atomically(directory / "model.safetensors", save(tensors))
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
