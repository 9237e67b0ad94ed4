"""The file from which training resumes: weights, optimiser state and progress."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from stas_neuro.documents import BadDocument
from stas_neuro.documents import parse_json as parse_plain_json
from stas_neuro.errors import InputError
from stas_neuro.files import parse_json, write_atomically
from stas_neuro.models.tensors import open_tensors
from stas_neuro.training.ponder import EnergySurrogate

Moments = Mapping[int, Mapping[str, Tensor]]
"""State of AdamW for each parameter, by parameter index."""
_REMEDY = "train again without --resume"
_MODEL, _OPTIMISER = "model.", "optimiser."
_MOMENTS = ("exp_avg", "exp_avg_sq")
"""State of AdamW with the shape of its parameter; there is also the number of steps."""


@dataclass(frozen=True)
class Progress:
    """The last finished epoch, and the run that it belongs to.

    `key` is equal for runs with the same configuration, options and data. `log` has one line of JSON per
    finished epoch. `held_out` identifies the held-out images; None in files of the first versions. `prices`
    are those that the ponder loss weighs visits by, if any.
    """

    stage: int
    epoch: int
    key: str
    log: tuple[str, ...]
    held_out: str | None = None
    prices: EnergySurrogate | None = None


@dataclass(frozen=True)
class State:
    """State to resume from: weights by name, and the state of the optimiser."""

    progress: Progress
    weights: Mapping[str, Tensor]
    moments: Moments


def write_state(
    path: Path, progress: Progress, weights: Mapping[str, Tensor], optimiser: Mapping[str, Any]
) -> None:
    """Write a state; `optimiser` is the state_dict of an AdamW."""
    tensors = {f"{_MODEL}{name}": tensor.contiguous() for name, tensor in weights.items()}
    for index, state in optimiser["state"].items():
        tensors |= {f"{_OPTIMISER}{index}.{name}": tensor for name, tensor in state.items()}
    write_atomically(path, save(tensors, metadata={"progress": json.dumps(asdict(progress))}))


def read_state(
    path: Path,
    weights: Mapping[str, Tensor],
    parameters: Sequence[Tensor],
    epochs: Sequence[int],
    steps: int,
    check: Callable[[Progress], None],
) -> State:
    """Read a state.

    Parameters
    ----------
    weights, parameters
        Weights by name of the model to resume, and its parameters in the order of the optimiser.
    epochs, steps
        Number of epochs of each stage, and of steps of each epoch.
    check
        Raises InputError if the state belongs to another run. It is called first, as all other checks assume
        the same run.

    Raises
    ------
    InputError
        If the file is damaged, or its content is impossible for a training.
    """
    with open_tensors(path, _REMEDY) as file:
        text = file.metadata.get("progress")
        if text is None:
            raise InputError(f"{path}: damaged (no progress in its metadata)", _REMEDY)
        progress = parse_json(Progress, text.encode(), f"{path}: damaged: progress", _REMEDY)
        check(progress)
        _check_progress(path, progress, epochs)
        wanted = {f"{_MODEL}{name}": tensor for name, tensor in weights.items()}
        count = torch.zeros((), dtype=torch.float32)
        for index, parameter in enumerate(parameters):
            own = {name: parameter for name in _MOMENTS} | {"step": count}
            wanted |= {f"{_OPTIMISER}{index}.{name}": tensor for name, tensor in own.items()}
        tensors = file.load({name: name for name in file.forms}, wanted, _REMEDY)
    moments = {
        index: {name: tensors[f"{_OPTIMISER}{index}.{name}"] for name in ("step", *_MOMENTS)}
        for index in range(len(parameters))
    }
    done = (progress.epoch + 1) * steps
    for index, own in moments.items():
        if own["step"].item() != done or (own["exp_avg_sq"] < 0).any():
            what = f"{_OPTIMISER}{index} is not the result of {done} steps"
            raise InputError(f"{path}: damaged ({what})", _REMEDY)
    return State(progress, {name: tensors[f"{_MODEL}{name}"] for name in weights}, moments)


def _check_progress(path: Path, progress: Progress, epochs: Sequence[int]) -> None:
    """Raise InputError unless the epoch exists and the log has a line for each epoch up to it."""
    stage, epoch = progress.stage, progress.epoch
    if not 1 <= stage <= len(epochs) or not 0 <= epoch < epochs[stage - 1]:
        raise InputError(f"{path}: damaged (there is no epoch {epoch} of stage {stage})", _REMEDY)
    lines = sum(epochs[: stage - 1]) + epoch + 1
    if len(progress.log) != lines:
        raise InputError(f"{path}: damaged (has {len(progress.log)} lines for {lines} epochs)", _REMEDY)
    for number, line in enumerate(progress.log, 1):
        try:
            if "\n" in line or not isinstance(parse_plain_json(line.encode()), dict):
                raise BadDocument("is not one line with a JSON object")
        except BadDocument as error:
            raise InputError(f"{path}: damaged (line {number} of its log {error})", _REMEDY) from error
