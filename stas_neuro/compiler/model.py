"""Lowering of a trained model to a graph, with or without its normalisations folded."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stas_neuro.bundle import Provenance
from stas_neuro.errors import InputError
from stas_neuro.extras import needs
from stas_neuro.files import read_bytes
from stas_neuro.ir import Graph, Stage
from stas_neuro.passes import FoldBatchNorm, Pass, run_passes

if TYPE_CHECKING:
    from stas_neuro.models.stas import StasModel

CHECKPOINT_FILES = ("config.json", "model.safetensors")
PassRecord = Mapping[str, str | int | float | bool]
"""Name and arguments of a pass, as a bundle records them."""
FOLDING: tuple[Pass, ...] = (FoldBatchNorm(),)
"""Passes that fold a traced graph."""


def is_checkpoint(path: str | Path) -> bool:
    """Return whether a path is the directory of a checkpoint, not a bundle."""
    return (Path(path) / CHECKPOINT_FILES[0]).is_file()


def load_model(
    model: StasModel | str | Path,
    *,
    accumulate: str | None = None,
    epsilon: float | None = None,
    readout: str | None = None,
    max_visits: int | None = None,
    token_groups: int | None = None,
    time_steps: int | None = None,
    **parameters: float | bool,
) -> StasModel:
    """Load a checkpoint directory, or copy a model, and optionally override its halting and model steps.

    `parameters` are alpha, beta, margin or summed.

    A copy shares its weights with the given model, which is not changed.

    Raises
    ------
    InputError
        If torch is missing, the checkpoint is damaged, or the options fit no model.
    """
    if isinstance(model, str | Path):
        with needs("torch"):
            from stas_neuro.models.checkpoint import load_checkpoint
        model = load_checkpoint(Path(model))
    options: dict[str, Any] = {"accumulate": accumulate, "epsilon": epsilon, "readout": readout}
    options |= {"max_visits": max_visits, "token_groups": token_groups, **parameters}
    changes = {name: value for name, value in options.items() if value is not None}
    if changes:
        model = copy.copy(model)
        model.config = model.config.replace(**changes)
    return model if time_steps is None else _with_steps(model, time_steps)


def _with_steps(model: StasModel, time_steps: int) -> StasModel:
    """Build the model again for another number of steps: its stem repeats tokens or averages over them."""
    if model.config.stem == "late-learned" and time_steps != model.config.time_steps:
        what = f"the stem has a weight for each of the {model.config.time_steps} model steps"
        raise InputError(what, "train a model with this number of steps")
    built = type(model)(model.config.with_steps(time_steps))
    built.load_state_dict(model.state_dict(), assign=True)
    return built.train(model.training)


def fold(
    model: StasModel | Graph | str | Path,
    *,
    accumulate: str | None = None,
    epsilon: float | None = None,
    readout: str | None = None,
    max_visits: int | None = None,
    token_groups: int | None = None,
) -> Graph:
    """Lower a trained model to a graph and fold its normalisations, as required by every backend but torch.

    Parameters
    ----------
    model : StasModel, Graph, str or Path
        A model, the directory of a checkpoint, or a graph; only a traced graph is changed.
    accumulate, epsilon, readout, max_visits, token_groups : optional
        Override the model's configuration; ``accumulate="off"`` ignores halting.

    Raises
    ------
    InputError
        If the checkpoint is missing or damaged, a graph cannot express the model (all reasons at once), or
        halting is overridden for a graph.
    """
    words: dict[str, Any] = {"accumulate": accumulate, "epsilon": epsilon, "readout": readout}
    words |= {"max_visits": max_visits, "token_groups": token_groups}
    if not isinstance(model, Graph):
        return run_passes(lower(model, **words), FOLDING)
    if given := [name for name, value in words.items() if value is not None]:
        raise InputError(f"the halting of a graph is fixed, and {given[0]} is given", "give the model")
    return run_passes(model, FOLDING) if model.stage == Stage.TRACED else model


def lower(
    model: StasModel | str | Path,
    *,
    accumulate: str | None = None,
    epsilon: float | None = None,
    readout: str | None = None,
    max_visits: int | None = None,
    token_groups: int | None = None,
) -> Graph:
    """Return the traced graph, with BatchNorms not yet folded; parameters as :func:`fold`."""
    loaded = load_model(
        model,
        accumulate=accumulate,
        epsilon=epsilon,
        readout=readout,
        max_visits=max_visits,
        token_groups=token_groups,
    )
    with needs("torch"):
        from stas_neuro.frontend import torch_model
    return torch_model.lower(loaded)


def provenance(
    checkpoint: str | Path, *, passes: Sequence[PassRecord] = (), **options: str | float | None
) -> Provenance:
    """Return the origin of a bundle: a checkpoint, the SHA-256 of its files, and the options given.

    The path is absolute, so that `verify` finds the checkpoint from any working directory.
    """
    directory = Path(checkpoint).resolve()
    return Provenance(
        source=str(directory),
        source_sha256={
            name: hashlib.sha256(read_bytes(directory / name)).hexdigest() for name in CHECKPOINT_FILES
        },
        options={name: value for name, value in options.items() if value is not None},
        passes=tuple(passes),
    )
