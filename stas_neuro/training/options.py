"""Training options as plain data. Does not import torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stas_neuro.choices import MODES, Mode
from stas_neuro.errors import InputError, unknown
from stas_neuro.kinds import FLAG, REAL, TEXT, Take, check_fields, whole
from stas_neuro.models.config import PRESETS

if TYPE_CHECKING:
    from stas_neuro.api import TrainReport


_NOT_NEGATIVE = (
    "stage1_rate",
    "stage2_rate",
    "weight_decay",
    "label_smoothing",
    "ponder_weight",
    "zombie_weight",
    "exit_loss",
)


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where a training writes, and whom it tells.

    Parameters
    ----------
    directory : Path
    resume : bool
        Continue after the last finished epoch of an earlier training there.
    prepare : callable
        Called before anything is written, while the directory is locked against other trainings.
    report : callable
        Called with each event; see `stas_neuro.training.train`.
    """

    directory: Path
    resume: bool = False
    prepare: Callable[[], None] = lambda: None
    report: TrainReport = lambda event: None


_KINDS: Mapping[str, Take] = {
    **dict.fromkeys(("stage1_epochs", "stage2_epochs", "batch_size", "holdout", "seed"), whole()),
    **dict.fromkeys((*_NOT_NEGATIVE, "ponder_ramp"), REAL),
    **dict.fromkeys(("bfloat16", "compile"), FLAG),
    "ponder_profile": TEXT,
}
"""Kinds of the options that are no names."""
Augmentation = Literal["none", "shift", "shift-and-mirror"]
AUGMENTATIONS: Mapping[Augmentation, str] = {
    "none": "images as they are",
    "shift": "shifted at random by up to a fourteenth of their side (2 pixels of 28)",
    "shift-and-mirror": "also mirrored at random, which changes no class of photographs but those of digits",
}
"""Augmentations of training images, and what they do."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Options of training: stage 1 without halting, stage 2 with halting (arXiv 2508.14138)."""

    stage1_epochs: int = 8
    stage2_epochs: int = 6
    batch_size: int = 128
    """Images per training step, over all processes."""
    stage1_rate: float = 3e-3
    stage2_rate: float = 1e-3
    """Peak learning rates of AdamW under a one-cycle schedule (linear warm-up, cosine decay)."""
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    ponder_weight: float = 0.005
    """delta_p of the loss ``L_task + delta_p * L_ponder``."""
    ponder_ramp: float = 0.3
    """Fraction of stage 2 during which delta_p rises linearly from 0."""
    ponder_profile: str = ""
    """Profile of the chip by whose prices visits are weighed (`training.ponder`); empty: all weigh alike."""
    ponder_mode: Mode = "single"
    """Whether an image is priced alone or in a stream, with `ponder_profile`."""
    zombie_weight: float = 0.0
    """Weight of a penalty on tokens that do not halt before their last visit."""
    exit_loss: float = 0.0
    """Weight of the cross-entropy of the mean logits after each step, with halting `image`."""
    augment: Augmentation = "none"
    """How training images are augmented (`AUGMENTATIONS`)."""
    holdout: int = 5000
    """Number of images of the training set held out for evaluation, drawn by ``seed``; never the test set."""
    seed: int = 0
    bfloat16: bool = False
    """Matrix products in bfloat16 (weights stay float32)."""
    compile: bool = False
    """Fuse the neurons' arithmetic with torch.compile (needs a C++ compiler)."""

    def __post_init__(self) -> None:
        check_fields(self, _KINDS)
        if self.augment not in AUGMENTATIONS:
            raise unknown("augmentation", self.augment, AUGMENTATIONS)
        if self.ponder_mode not in MODES:
            raise unknown("ponder mode", self.ponder_mode, MODES)
        for field in _NOT_NEGATIVE:
            if not 0 <= getattr(self, field) < math.inf:
                raise InputError(
                    f"{field}={getattr(self, field)} is not a finite number of at least 0",
                    remedy="correct it",
                )
        for field, least in (("stage1_epochs", 0), ("stage2_epochs", 0), ("batch_size", 1), ("holdout", 1)):
            if getattr(self, field) < least:
                raise InputError(f"{field}={getattr(self, field)} is below {least}", remedy="raise it")
        if not 0 <= self.ponder_ramp <= 1:
            raise InputError(
                f"ponder_ramp={self.ponder_ramp} is outside [0, 1]", remedy="use a fraction of stage 2"
            )

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `json.dumps`."""
        return asdict(self)


_SMALL = {"batch_size": 32, "stage1_rate": 2e-2, "stage2_rate": 1e-2}
_PICTURES = {"augment": "shift-and-mirror"}
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "tiny": _SMALL,
    "tiny-spikingformer": _SMALL,
    "fashion": _PICTURES,
    "fashion-spikingformer": _PICTURES,
    **{name: _PICTURES for name in PRESETS if name.endswith(("cifar10", "cifar100", "imagenet"))},
}
"""Options, other than the defaults, with which a preset is trained unless others are given."""


def recipe(preset: str | None, **changes: Any) -> TrainOptions:
    """Return the options with which a preset (None: another network) is trained, with changes."""
    return TrainOptions(**{**RECIPES.get(preset or "", {}), **changes})
