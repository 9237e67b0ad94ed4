"""Configuration of a STAS model as plain data, its checks, and the presets. Does not import torch."""

from __future__ import annotations

import difflib
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from stas_neuro.choices import ACCUMULATIONS as ACCUMULATIONS
from stas_neuro.errors import InputError, unknown
from stas_neuro.limits import BLOCKS_LIMIT, STEPS_LIMIT

if TYPE_CHECKING:
    from stas_neuro.ir.policies import Policy


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """What sets backbones apart, beside the order in which a block's layers compute.

    Parameters
    ----------
    lif_first : bool
        Stages of the stem have their LIF before the convolution (the first one has none), not after it.
    position : bool
        A relative-position convolution is added to the stem's tokens.
    qkv_bias : bool
        The layers of queries, keys and values have biases.
    block_lifs : tuple of str
        Layers of a block that have a LIF, beside those of the attention.
    """

    lif_first: bool
    position: bool
    qkv_bias: bool
    block_lifs: tuple[str, ...]


BACKBONES: Mapping[str, Backbone] = {
    "spikformer": Backbone(lif_first=False, position=True, qkv_bias=True, block_lifs=("proj", "fc1", "fc2")),
    "spikingformer": Backbone(
        lif_first=True, position=False, qkv_bias=False, block_lifs=("in", "fc1", "fc2")
    ),
}
R = TypeVar("R")


def per_backbone(what: str, rules: Mapping[str, R]) -> Mapping[str, R]:
    """Return a table of rules by backbone; TypeError where it lacks one, or has one of no backbone."""
    if odd := rules.keys() ^ BACKBONES.keys():
        raise TypeError(f"{what}: {', '.join(sorted(odd))} needs a rule, and to be among BACKBONES")
    return dict(rules)


ATTENTIONS = ("ssa", "sdsa")
EARLY_STEMS = ("max", "mean", "sum", "learned")
LATE_STEMS = ("late-max", "late-mean", "late-sum", "late-learned")
STEMS = ("one-step", *EARLY_STEMS, *LATE_STEMS, "sps")
READOUTS = ("mean-field", "last-state", "rate")
FIRES = (">", ">=")
STEM_STAGES = 4  # spiking convolution stages of both backbones' stems; at most one halving pool each
ATTENTION_SCALE = 0.125  # fixed in both backbones, whatever the head width
THRESHOLD = 1.0
ATTENTION_THRESHOLD = 0.5
TAU = 2.0
LARGEST = 2**31 - 1  # largest value of a size
_LATER = (
    "summed",
    "max_visits",
    "token_groups",
)  # fields that files of earlier models lack; their defaults are false
_LIMITS = {"time_steps": STEPS_LIMIT, "depth": BLOCKS_LIMIT, "dim": 1 << 16}


@dataclass(frozen=True, kw_only=True)
class StasConfig:
    """Configuration of a spatio-temporally adaptive spiking vision transformer (arXiv 2508.14138).

    ``alpha``, ``beta`` and ``epsilon`` parametrise halting: score ``sigmoid(alpha * z_0 + beta)``, a token
    halts when its accumulated score reaches ``1 - epsilon``. The paper does not specify them; the defaults
    suit the small integers in a Spikformer residual stream. ``margin`` is for halting by image: the
    difference between the two largest logits, averaged over the steps so far, at which an image halts; with
    ``summed`` of their sums over these steps. ``max_visits`` is the number of visits after which a token
    halts whatever its score, 0 for all of them. ``token_groups`` is the number of groups of tokens, in scan
    order, that halt together by the mean of their z_0; with 0 each token halts by its own.

    Raises
    ------
    InputError
        If a value is unknown or a combination is impossible. The message has all reasons.
    """

    backbone: str = "spikformer"
    attention: str = "ssa"
    stem: str = "one-step"
    accumulate: str = "raster"
    readout: str = "mean-field"
    time_steps: int = 4
    depth: int = 2
    dim: int = 64
    heads: int = 4
    mlp_ratio: float = 4.0
    image_size: int = 28
    in_channels: int = 1
    patch_size: int = 4
    num_classes: int = 10
    alpha: float = 1.0
    beta: float = -3.0
    epsilon: float = 0.01
    margin: float = 1.0
    summed: bool = False
    max_visits: int = 0
    token_groups: int = 0
    fire: str = ">"
    event_input: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = self._problems()
        if problems:
            raise InputError(
                "impossible model configuration: " + "; ".join(problems), remedy="correct these fields"
            )

    def _problems(self) -> list[str]:  # noqa: C901, PLR0912
        out: list[str] = []
        for field, allowed in (
            ("backbone", BACKBONES),
            ("attention", ATTENTIONS),
            ("stem", STEMS),
            ("accumulate", ACCUMULATIONS),
            ("readout", READOUTS),
            ("fire", FIRES),
        ):
            value = getattr(self, field)
            if value not in allowed:
                out.append(f"{field}={value!r} is not one of {', '.join(allowed)}")
        for field in (
            "time_steps",
            "depth",
            "dim",
            "heads",
            "image_size",
            "in_channels",
            "patch_size",
            "num_classes",
        ):
            value = getattr(self, field)
            most = _LIMITS.get(field, LARGEST)
            if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
                out.append(f"{field}={value!r} is not a positive integer of at most {most}")
        for field in ("mlp_ratio", "alpha", "beta", "epsilon", "margin", "mean", "std"):
            value = getattr(self, field)
            if not all(_is_finite(number) for number in (value if isinstance(value, tuple) else (value,))):
                out.append(f"{field}={value!r} is not finite")
        if not all(isinstance(name, str) for name in self.classes):
            out.append(f"classes={self.classes!r} are not all text")
        elif not all(name.isprintable() for name in self.classes):
            out.append(f"classes={self.classes!r} have unprintable characters")
        if out:
            return out
        if self.dim % 8:
            out.append(f"dim={self.dim} is not a multiple of 8 (the stem starts at dim/8 channels)")
        if self.dim % self.heads:
            out.append(f"heads={self.heads} does not divide dim={self.dim}")
        pools = self.patch_size.bit_length() - 1
        if self.patch_size != 1 << pools or pools > STEM_STAGES:
            out.append(
                f"patch_size={self.patch_size} is not 1, 2, 4, 8 or 16 (each stem stage halves at most once)"
            )
        elif self.image_size % self.patch_size:
            out.append(f"patch_size={self.patch_size} does not divide image_size={self.image_size}")
        if not 1 <= self.dim * self.mlp_ratio <= LARGEST:
            out.append(f"mlp_ratio={self.mlp_ratio} results in no hidden channels, or too many")
        if not 0 <= self.epsilon < 1:
            out.append(f"epsilon={self.epsilon} is outside [0, 1)")
        if self.margin < 0:
            out.append(f"margin={self.margin} is negative")
        out += self._cap_problems()
        if type(self.token_groups) is not int or not 0 <= self.token_groups <= self.tokens:
            out.append(
                f"token_groups={self.token_groups!r} is not a whole number from 0 to {self.tokens} tokens"
            )
        elif self.token_groups and self.accumulate == "image":
            out.append(f"token_groups={self.token_groups}: with accumulate='image' all tokens halt together")
        if self.accumulate == "image" and self.num_classes < 2:
            out.append("accumulate='image' compares classes, num_classes is 1")
        for field in ("mean", "std"):
            values = getattr(self, field)
            if values and len(values) != self.in_channels:
                out.append(f"{field} has {len(values)} values for {self.in_channels} channels")
        if any(not value > 0 for value in self.std):
            out.append(f"std={self.std} has a value that is not positive")
        if self.classes and len(self.classes) != self.num_classes:
            out.append(f"{len(self.classes)} class names for num_classes={self.num_classes}")
        if repeated := [name for name, count in Counter(self.classes).items() if count > 1]:
            out.append(f"classes occur more than once: {', '.join(repeated)}")
        return out

    def _cap_problems(self) -> list[str]:
        if type(self.max_visits) is not int or self.max_visits < 0:
            return [f"max_visits={self.max_visits!r} is not a whole number of at least 0"]
        fewest = 0 if self._capped is None else self._capped.fewest_visits(self.depth, self.time_steps)
        if self.max_visits >= fewest:
            return []
        what = f"max_visits={self.max_visits} is below the {fewest} visits that a token makes before it can"
        return [f"{what} halt with accumulate={self.accumulate!r}"]

    @property
    def _capped(self) -> Policy | None:
        """The halting policy, if visits are capped."""
        if not self.max_visits or self.accumulate == "off":
            return None
        from stas_neuro.ir.policies import POLICIES  # loads numpy, which help texts do without

        return POLICIES[self.accumulate]

    def closes(self, block: int) -> int | None:
        """Return the step from which on every token halts behind a block, by `max_visits`; None for none."""
        if self._capped is None:
            return None
        return self._capped.closes(block, self.depth, self.time_steps, self.max_visits)

    @property
    def groups(self) -> tuple[int, ...]:
        """Number of the group of each token that halts with others; empty if each halts alone."""
        if self.token_groups in (0, self.tokens):
            return ()
        from stas_neuro.ir.policies import group_numbers  # loads numpy, which help texts do without

        return group_numbers(self.tokens, self.token_groups)

    @property
    def largest_group(self) -> int:
        """Number of tokens of the largest group; 1 if each halts alone."""
        return -(-self.tokens // self.token_groups) if self.token_groups else 1

    def with_steps(self, time_steps: int) -> StasConfig:
        """Return the configuration of the first `time_steps` steps, whose visits are capped as they were."""
        if self._capped is None:
            return self.replace(time_steps=time_steps)
        within = self._capped.visits_within(self.max_visits, self.depth, self.time_steps, time_steps)
        return self.replace(time_steps=time_steps, max_visits=within)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes; their numbers if they have no names."""
        return self.classes or tuple(str(index) for index in range(self.num_classes))

    @property
    def form(self) -> Backbone:
        """What the backbone is like."""
        return BACKBONES[self.backbone]

    @property
    def pools(self) -> int:
        """Number of halving max-pools in the stem; they are in its last stages."""
        return self.patch_size.bit_length() - 1

    @property
    def grid(self) -> int:
        """Number of tokens along one side of the image."""
        return self.image_size // self.patch_size

    @property
    def tokens(self) -> int:
        """Number of tokens of an image (N)."""
        return self.grid * self.grid

    @property
    def hidden(self) -> int:
        """Number of channels inside the MLP."""
        return int(self.dim * self.mlp_ratio)

    @property
    def stem_channels(self) -> tuple[int, ...]:
        """Output channels of the stem's four stages."""
        return (self.dim // 8, self.dim // 4, self.dim // 2, self.dim)

    def replace(self, **changes: Any) -> StasConfig:
        """Return a validated copy with some fields changed."""
        return replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for ``config.json``; without fields that came later, where they are not used."""
        return {name: value for name, value in asdict(self).items() if name not in _LATER or value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], source: str = "configuration") -> StasConfig:
        """Make a configuration from the data of :meth:`to_json`; ``source`` names the file in errors.

        Raises
        ------
        InputError
            On an unknown key, a value of the wrong type, or an impossible combination.
        """
        known = {field.name: field for field in fields(cls)}
        for key in data:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
                raise InputError(f"{source}: unknown key {key!r}", remedy=hint)
        values: dict[str, Any] = {}
        for key, value in data.items():
            want = type(known[key].default)
            if want is tuple and isinstance(value, list):
                value = tuple(value)
            elif want is float and type(value) is int and abs(value) <= LARGEST:
                value = float(value)
            if type(value) is not want:
                raise InputError(
                    f"{source}: {key} is {value!r}, a {type(value).__name__}",
                    remedy=f"use a value of type {want.__name__}",
                )
            values[key] = value
        try:
            return cls(**values)
        except InputError as error:
            raise InputError(f"{source}: {error.what}", remedy=error.remedy) from error


def _is_finite(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max


def _cifar(depth: int, dim: int, backbone: str = "spikformer") -> StasConfig:
    return StasConfig(
        backbone=backbone, depth=depth, dim=dim, heads=12, image_size=32, in_channels=3, patch_size=4
    )


def _imagenet(depth: int, dim: int, backbone: str = "spikformer") -> StasConfig:
    return StasConfig(
        backbone=backbone,
        depth=depth,
        dim=dim,
        heads=8,
        image_size=224,
        in_channels=3,
        patch_size=16,
        num_classes=1000,
    )


PRESETS: Mapping[str, StasConfig] = {
    "tiny": StasConfig(dim=32, heads=4, depth=2, image_size=8, patch_size=2, mlp_ratio=2.0),
    "tiny-spikingformer": StasConfig(
        dim=32,
        heads=4,
        depth=2,
        image_size=8,
        patch_size=2,
        mlp_ratio=2.0,
        backbone="spikingformer",
        accumulate="rectangular",
    ),
    "fashion": StasConfig(mlp_ratio=2.0),
    "fashion-spikingformer": StasConfig(mlp_ratio=2.0, backbone="spikingformer", accumulate="rectangular"),
    "order": StasConfig(
        stem="sps", time_steps=10, dim=32, heads=2, image_size=4, patch_size=2, mlp_ratio=2.0
    ),
    "order-long": StasConfig(
        stem="sps", time_steps=64, dim=32, heads=2, image_size=4, patch_size=2, mlp_ratio=2.0
    ),
    "simulated-glimpses": StasConfig(
        stem="sps",
        time_steps=8,
        depth=1,
        dim=32,
        heads=2,
        image_size=4,
        in_channels=2,
        patch_size=2,
        mlp_ratio=2.0,
    ),
    "japanese-vowels": StasConfig(
        stem="sps", time_steps=29, dim=64, heads=4, image_size=1, in_channels=24, patch_size=1, mlp_ratio=2.0
    ),
    "spikformer-2-256-cifar10": _cifar(2, 384).replace(dim=256, heads=8),
    "spikformer-4-384-cifar10": _cifar(4, 384),
    "spikformer-4-384-cifar100": _cifar(4, 384).replace(num_classes=100),
    "spikingformer-4-384-cifar10": _cifar(4, 384, "spikingformer"),
    "spikingformer-4-384-cifar100": _cifar(4, 384, "spikingformer").replace(num_classes=100),
    "spikformer-8-384-imagenet": _imagenet(8, 384),
    "spikformer-8-512-imagenet": _imagenet(8, 512),
    "spikformer-8-768-imagenet": _imagenet(8, 768).replace(heads=12),
    "spikingformer-8-512-imagenet": _imagenet(8, 512, "spikingformer"),
}


def preset(name: str) -> StasConfig:
    """Return the configuration of a preset.

    Raises
    ------
    InputError
        If there is no preset of that name.
    """
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return PRESETS[name]
