"""Checkpoints that were released without code, by the names of their tensors (docs/importing-weights.md)."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from stas_neuro.bundle import Provenance
from stas_neuro.documents import BadDocument, open_file, parse_number
from stas_neuro.errors import InputError, unknown
from stas_neuro.extras import needs
from stas_neuro.ir import Graph
from stas_neuro.kinds import FLAG, REAL, Kind, Take, check_fields, optional, whole
from stas_neuro.models.config import BACKBONES as ARCHITECTURES

_NUMBERS = Kind(
    "numbers, one for each channel",
    lambda value: isinstance(value, tuple | list) and all(map(REAL.accepts, value)),
)
_KINDS: Mapping[str, Take] = {
    **dict.fromkeys(("heads", "time_steps", "image_size"), optional(whole(1))),
    **dict.fromkeys(("tau", "threshold", "attention_threshold", "attention_scale"), optional(REAL)),
    "ema": FLAG,
    "mean": _NUMBERS,
    "std": _NUMBERS,
}
"""Kinds of the options that are no names."""
_COUNTER = re.compile(r"^.*\.(?=(num_batches_tracked|act_func?\.alpha)$)")
_NUMBER = re.compile(r"(?<=\.)[0-9]+(?=\.)")
"""What is left out of keys to say them together: whose counter or slope it is, and the number of a block."""


@dataclass(frozen=True, kw_only=True)
class WeightsOptions:
    """What the tensors of a checkpoint do not show, by the names that it has on the command line.

    Parameters
    ----------
    arch : str
        "spikformer" or "spikingformer".
    heads : int
        Heads of attention: no tensor shows them. The released models for CIFAR have 12, for ImageNet 8.
    ema : bool
        Take the exponential moving average of the weights instead of the weights.
    time_steps, image_size : int, optional
        Default: those of the published class that the names are of.
    mean, std : tuple of float
        What pixels in 0..1 are normalised with, by channel; empty: they are not.
    tau, attention_scale : float, optional
        Of the neurons in steps, and of attention. Default: those of the published class.
    threshold, attention_threshold : float, optional
        Of the neurons, and of those behind attention. Default: those in the file, else 1 and 0.5.

    Raises
    ------
    InputError
        If an option is unknown or out of range.
    """

    arch: str
    heads: int | None = None
    ema: bool = False
    time_steps: int | None = None
    image_size: int | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    tau: float | None = None
    threshold: float | None = None
    attention_threshold: float | None = None
    attention_scale: float | None = None

    def __post_init__(self) -> None:
        check_fields(self, _KINDS)
        if self.arch not in ARCHITECTURES:
            raise unknown("arch", self.arch, ARCHITECTURES)
        for name, least in (("tau", 1), ("threshold", 0), ("attention_threshold", 0), ("attention_scale", 0)):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= least and value > 0):
                bound = "at least 1" if least else "above 0"
                raise InputError(f"{name.replace('_', '-')} is {value}", f"give a number {bound}")

    def as_words(self) -> dict[str, str | int | float | bool]:
        """Give the options that were given, as the record of a bundle holds them."""
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        return {
            name: ",".join(map(repr, value)) if isinstance(value, tuple) else value
            for name, value in given.items()
            if value not in (None, False, ())
        }

    @classmethod
    def of_words(cls, words: Mapping[str, Any]) -> WeightsOptions | None:
        """Give options back from what `as_words` gave, which may be among others; None without an arch."""
        if "arch" not in words:
            return None
        own = {each.name: words[each.name] for each in fields(cls) if each.name in words}
        own |= {name: parse_numbers(own[name]) for name in ("mean", "std") if name in own}
        return cls(**own)


def parse_numbers(text: str) -> tuple[float, ...]:
    """Read numbers between commas; InputError where one is none."""
    try:
        return tuple(parse_number(part.strip()) for part in text.split(","))
    except BadDocument as error:
        raise InputError(
            f"a part of {text!r} {error}", "give numbers between commas: 0.49,0.48,0.45"
        ) from error


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """What was taken from a file, and what was not.

    Parameters
    ----------
    kind : str
        "torch", "torch, legacy" or "safetensors".
    entry : str
        Keys of the dicts that the weights were in, with dots; empty where they are the whole file.
    averaged : bool
        Whether they are an exponential moving average (EMA).
    beside : tuple of str
        Entries of the file that were not read.
    averages : tuple of str
        Those of them that are moving averages of the weights.
    removed : tuple of str
        What names of tensors began with, or wrappers had put into them.
    unused : tuple of str
        Tensors that the network does not use.
    """

    kind: str
    entry: str
    averaged: bool
    beside: tuple[str, ...]
    averages: tuple[str, ...]
    removed: tuple[str, ...]
    unused: tuple[str, ...] = ()

    def sentences(self) -> tuple[str, ...]:
        """Say it in words, keys that are alike together."""
        taken = f"took {self.entry or 'the file'} ({self.kind}){self._named()}"
        if self.averaged:
            taken += ", the moving average (EMA)"
        elif self.averages:
            taken += f", not the moving average (EMA) {' or '.join(self.averages)}: --ema takes it"
        alike = Counter(_NUMBER.sub("*", _COUNTER.sub("*.", key)) for key in self.unused)
        unused = tuple(f"{key} ({count})" if count > 1 else key for key, count in alike.items())
        lists = (("removed from names", self.removed), ("not read", self.beside), ("not used", unused))
        return (taken, *(f"{what}: {', '.join(keys)}" for what, keys in lists if keys))

    def _named(self) -> str:
        return ""


@dataclass(frozen=True, kw_only=True)
class WeightsReport(FileReport):
    """What was taken from a file whose tensors have the names of a published class.

    Parameters
    ----------
    naming : str
        The published class that the names are of.
    assumed : mapping
        Options that were not given, and what was taken for them.
    """

    naming: str
    assumed: Mapping[str, str | int | float]

    def sentences(self) -> tuple[str, ...]:
        """Say it in words, keys that are alike together."""
        assumed = ", ".join(f"{name.replace('_', '-')} {value}" for name, value in self.assumed.items())
        more = [f"not given, taken from the published class: {assumed}"] if assumed else []
        return (*super().sentences(), *more)

    def _named(self) -> str:
        return f", named as {self.naming}"


@dataclass(frozen=True)
class Weights:
    """A network from a file of weights: its traced graph, and what was taken from the file."""

    graph: Graph
    report: WeightsReport
    path: Path
    options: WeightsOptions

    def provenance(self, passes: tuple[Mapping[str, Any], ...], options: Mapping[str, Any]) -> Provenance:
        """Tell where a bundle compiled from it comes from."""
        digest = hashlib.sha256()
        with open_file(self.path) as stream:
            while part := stream.read(1 << 20):
                digest.update(part)
        return Provenance(
            source=str(self.path),
            source_sha256={self.path.name: digest.hexdigest()},
            options={**self.options.as_words(), **options},
            passes=passes,
        )


def open_weights(path: str | Path, options: WeightsOptions | None = None, **words: Any) -> Weights:
    """Make the network of a released checkpoint: .pth, .pt, .pth.tar or .safetensors.

    Parameters
    ----------
    path : str or Path
        Files of torch (zip and legacy) or safetensors, told by what they hold. No code in them runs.
    options : WeightsOptions
        Or its fields as keywords: ``open_weights("weights.pth", arch="spikformer", heads=12)``.

    Returns
    -------
    Weights
        `stas_neuro.compile` takes it. Its `report` lists what was taken and what was not used.

    Raises
    ------
    InputError
        If torch is missing, the file is damaged or holds code, or its tensors are not those of a known class:
        the error lists those that are missing, surplus and unused.
    """
    if options is None:
        if "arch" not in words:
            raise InputError("no arch is given", f"give one of {', '.join(ARCHITECTURES)}")
        options = WeightsOptions(**words)
    elif words:
        raise InputError("options are given twice", "give WeightsOptions, or keywords")
    with needs("torch"):
        from stas_neuro.importers.weights_graph import build
    place = Path(path)
    graph, report = build(place, options)
    return Weights(graph, report, place.resolve(), options)
