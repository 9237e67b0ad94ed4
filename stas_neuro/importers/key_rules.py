"""Names that released checkpoints give to tensors of Spikformer and Spikingformer, and those that we give.

Each `Naming` is one published class: its layers by our names, which of them have no bias, what it saves and
does not use, and what its code fixes though no tensor shows it. A checkpoint is of a naming when every key is
accounted for.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stas_neuro.documents import shown
from stas_neuro.limits import BLOCKS_LIMIT
from stas_neuro.models.checkpoint import COUNTER

_NORM = ("weight", "bias", "running_mean", "running_var")
_BLOCK = re.compile(r"block\.([0-9]{1,9})\.")
_HEAD, THRESHOLD = "head", "threshold"
_SLOPES = ("act_fun.alpha", "act_func.alpha")
"""The slope of a surrogate gradient, which training alone reads."""
_LISTED = 6


@dataclass(frozen=True, kw_only=True)
class Naming:
    """The names of one published class; `{}` stands for the number of a block.

    `layers` (convolutions and linear ones), `norms` and `neurons` (whose thresholds a checkpoint may hold)
    give our names by theirs. `without_bias` are our names of layers. `unused` are keys that such checkpoints
    have and the network does not use.
    """

    name: str
    backbone: str
    layers: Mapping[str, str]
    norms: Mapping[str, str]
    neurons: Mapping[str, str]
    without_bias: frozenset[str]
    unused: tuple[str, ...]
    patch_size: int
    image_size: int
    time_steps: int = 4
    events: bool = False
    tau: float = 2.0
    attention_scale: float = 0.125

    def keys(self, depth: int, own_thresholds: bool) -> dict[str, str]:
        """Give the keys that a network of so many blocks needs, and our names of these tensors."""
        found = {f"{_HEAD}.{part}": f"{_HEAD}.{part}" for part in ("weight", "bias")}
        for theirs, ours in self.layers.items():
            found |= _named(
                theirs, ours, ("weight",) if ours in self.without_bias else ("weight", "bias"), depth
            )
        for theirs, ours in self.norms.items():
            found |= _named(theirs, ours, _NORM, depth)
        for theirs, ours in self.neurons.items() if own_thresholds else ():
            found |= _named(theirs, ours, (THRESHOLD,), depth)
        return found

    def idle_keys(self, depth: int) -> tuple[set[str], set[str]]:
        """Give the keys that nothing here reads: those that must be there, and those that may."""
        must = {key.format(block) for key in self.unused for block in _blocks(key, depth)}
        may = [_named(theirs, "", (COUNTER,), depth) for theirs in self.norms]
        may += [_named(theirs, "", _SLOPES, depth) for theirs in self.neurons]
        return must, {key for keys in may for key in keys}


@dataclass(frozen=True)
class Match:
    """Keys of a checkpoint under a naming.

    `theirs` gives the key of each of our tensors, `thresholds` that of the threshold of each of our neurons.
    """

    naming: Naming
    depth: int
    theirs: Mapping[str, str]
    thresholds: Mapping[str, str]
    unused: tuple[str, ...]
    missing: tuple[str, ...]
    surplus: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether every key is accounted for."""
        return not self.missing and not self.surplus

    def __str__(self) -> str:
        lists = (("missing", self.missing), ("surplus", self.surplus), ("unused", self.unused))
        return "; ".join(f"{len(keys)} {what}: {_listed(keys)}" for what, keys in lists if keys)


def match(shapes: Mapping[str, tuple[int, ...]], backbone: str) -> Match:
    """Find the naming of a backbone that the keys of tensors fit best.

    Where none fits, the match says what is missing and what nobody uses.
    """
    matches = [_match(frozenset(shapes), naming) for naming in NAMINGS if naming.backbone == backbone]
    fitting = [each for each in matches if each.fits]
    if len(fitting) > 1:  # networks for images and for events have equal keys, and these two input channels
        events = shapes[fitting[0].theirs["stem.conv0.weight"]][1:2] == (2,)
        fitting = [each for each in fitting if each.naming.events == events]
    return min(fitting or matches, key=lambda each: len(each.missing) + len(each.surplus))


def _match(keys: frozenset[str], naming: Naming) -> Match:
    depth = max(1, min(BLOCKS_LIMIT, len({found[1] for found in map(_BLOCK.match, keys) if found})))
    own_thresholds = any(key.endswith(f".{THRESHOLD}") for key in keys)
    needed = naming.keys(depth, own_thresholds)
    must, may = naming.idle_keys(depth)
    named = {ours: theirs for theirs, ours in needed.items() if theirs in keys}
    return Match(
        naming,
        depth,
        {ours: theirs for ours, theirs in named.items() if not ours.endswith(THRESHOLD)},
        {ours: theirs for ours, theirs in named.items() if ours.endswith(THRESHOLD)},
        unused=_sorted(keys & (must | may)),
        missing=_sorted((needed.keys() | must) - keys),
        surplus=_sorted(keys - needed.keys() - must - may),
    )


def _named(theirs: str, ours: str, parts: Iterable[str], depth: int) -> dict[str, str]:
    return {
        f"{theirs.format(block)}.{part}": f"{ours.format(block)}.{part}"
        for block in _blocks(theirs, depth)
        for part in parts
    }


def _blocks(name: str, depth: int) -> range:
    """Give the blocks that a name is in, or one turn for a name of the stem."""
    return range(depth if "{}" in name else 1)


def _sorted(keys: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(keys))


def _listed(keys: Collection[str]) -> str:
    listed = ", ".join(shown(key) for key in list(keys)[:_LISTED])
    return listed + (", ..." if len(keys) > _LISTED else "")


# The table --------------------------------------------------------------------------------------------------


def _stem(stages: Iterable[str], ours: Iterable[str]) -> dict[str, str]:
    return {f"patch_embed.{theirs}": f"stem.{name}" for theirs, name in zip(stages, ours, strict=True)}


def _block(attention: Iterable[str], mlp: Iterable[str], ours: Iterable[str]) -> dict[str, str]:
    theirs = [f"attn.{name}" for name in attention] + [f"mlp.{name}" for name in mlp]
    return {f"block.{{}}.{name}": f"blocks.{{}}.{own}" for name, own in zip(theirs, ours, strict=True)}


_LAYERS = ("q", "k", "v", "proj", "fc1", "fc2")
_NORMS = tuple(f"{name}_bn" for name in _LAYERS)
_SPIKFORMER_LIFS = ("q_lif", "k_lif", "v_lif", "attn_lif", "proj_lif", "fc1_lif", "fc2_lif")
_SPIKINGFORMER_LIFS = ("in_lif", "q_lif", "k_lif", "v_lif", "attn_lif", "fc1_lif", "fc2_lif")
_STEM_CONVS = frozenset({"stem.rpe", *(f"stem.conv{stage}" for stage in range(5))})
_QKV = frozenset(f"blocks.{{}}.{name}" for name in "qkv")
_PROJ = frozenset({"blocks.{}.proj"})
_UNUSED_NORMS = tuple(f"block.{{}}.norm{i}.{part}" for i in (1, 2) for part in ("weight", "bias"))
_UNUSED_OF_EVENTS = ("pos_embed", "norm.weight", "norm.bias")


def _of_spikformer(kind: str, **facts: Any) -> Naming:
    """Name the parts of a Spikformer whose layers in blocks are of a kind, "linear" or "conv"."""
    stages = ("", "1", "2", "3")
    return Naming(
        backbone="spikformer",
        layers=_stem(
            [*(f"proj_conv{i}" for i in stages), "rpe_conv"], [*(f"conv{i}" for i in range(4)), "rpe"]
        )
        | _block([f"{p}_{kind}" for p in _LAYERS[:4]], [f"{p}_{kind}" for p in _LAYERS[4:]], _LAYERS),
        norms=_stem([*(f"proj_bn{i}" for i in stages), "rpe_bn"], [*(f"bn{i}" for i in range(4)), "rpe_bn"])
        | _block(_NORMS[:4], _NORMS[4:], _NORMS),
        neurons=_stem(
            [*(f"proj_lif{i}" for i in stages), "rpe_lif"], [*(f"lif{i}" for i in range(4)), "rpe_lif"]
        )
        | _block(_SPIKFORMER_LIFS[:5], _SPIKFORMER_LIFS[5:], _SPIKFORMER_LIFS),
        **facts,
    )


def _of_spikingformer(convs: Iterable[str], mlp: tuple[str, str], **facts: Any) -> Naming:
    """Name the parts of a Spikingformer by the names of its stem's five convolutions and of its MLP."""
    stages = tuple(convs)

    def stem(part: str) -> list[str]:
        return [name.replace("conv", part) for name in stages]

    return Naming(
        backbone="spikingformer",
        layers=_stem(stem("conv"), [f"conv{i}" for i in range(5)])
        | _block([f"{p}_conv" for p in _LAYERS[:4]], [f"{p}_conv" for p in mlp], _LAYERS),
        norms=_stem(stem("bn"), [f"bn{i}" for i in range(5)])
        | _block(_NORMS[:4], [f"{p}_bn" for p in mlp], _NORMS),
        neurons=_stem(stem("lif")[1:], [f"lif{i}" for i in range(1, 5)])
        | _block(["proj_lif", *_SPIKINGFORMER_LIFS[1:5]], [f"{p}_lif" for p in mlp], _SPIKINGFORMER_LIFS),
        **facts,
    )


_CIFAR = {"patch_size": 4, "image_size": 32}
_IMAGENET = {"patch_size": 16, "image_size": 224}
_EVENTS = {"patch_size": 16, "image_size": 128, "time_steps": 16, "events": True}
_BLOCK_CONVS = tuple(f"block{i}_conv" for i in range(5))
_PROJ_CONVS = ("proj_conv", *(f"proj{i}_conv" for i in range(1, 5)))
_STEP_CONVS = ("proj_conv", "proj_conv1", "proj_conv2", "proj_conv3", "rpe_conv")

NAMINGS = (
    _of_spikformer(
        "linear", name="Spikformer, CIFAR", without_bias=_STEM_CONVS, unused=_UNUSED_NORMS, **_CIFAR
    ),
    _of_spikformer("linear", name="Spikformer of STEP, CIFAR", without_bias=_STEM_CONVS, unused=(), **_CIFAR),
    _of_spikformer(
        "conv",
        name="Spikformer, ImageNet",
        without_bias=_STEM_CONVS | _QKV,
        unused=_UNUSED_NORMS,
        **_IMAGENET,
    ),
    _of_spikformer(
        "conv",
        name="Spikformer of STEP, ImageNet",
        without_bias=_STEM_CONVS | _QKV | _PROJ,
        unused=_UNUSED_NORMS,
        **_IMAGENET,
    ),
    _of_spikformer(
        "conv",
        name="Spikformer, events",
        without_bias=_STEM_CONVS | _QKV,
        unused=(*_UNUSED_NORMS, *_UNUSED_OF_EVENTS),
        attention_scale=0.25,
        **_EVENTS,
    ),
    _of_spikingformer(
        _BLOCK_CONVS,
        ("mlp1", "mlp2"),
        name="Spikingformer, CIFAR",
        without_bias=_STEM_CONVS | _QKV,
        unused=_UNUSED_NORMS,
        **_CIFAR,
    ),
    _of_spikingformer(
        _PROJ_CONVS,
        ("mlp1", "mlp2"),
        name="Spikingformer, ImageNet",
        without_bias=_STEM_CONVS | _QKV,
        unused=_UNUSED_NORMS,
        **_IMAGENET,
    ),
    _of_spikingformer(
        _PROJ_CONVS,
        ("mlp1", "mlp2"),
        name="Spikingformer, events",
        without_bias=_STEM_CONVS | _QKV,
        unused=_UNUSED_NORMS,
        tau=1.5,
        **_EVENTS,
    ),
    _of_spikingformer(
        _STEP_CONVS,
        ("fc1", "fc2"),
        name="Spikingformer of STEP, CIFAR",
        without_bias=_STEM_CONVS | _QKV | _PROJ,
        unused=(),
        **_CIFAR,
    ),
)
"""Every naming that is known. Of two with equal keys, one is of events."""
