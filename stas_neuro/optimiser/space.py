"""What a search combines: networks made from a model, their placements, and deployments of these."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, Literal

import numpy as np

from stas_neuro.chips import Profile
from stas_neuro.choices import HALT_MODES, STRATEGIES, Gating, HaltMode, Mode, Strategy
from stas_neuro.energy import Deployment
from stas_neuro.errors import InputError, unknown
from stas_neuro.ir import POLICIES
from stas_neuro.kinds import check_fields, whole
from stas_neuro.mapping import Mapping

FULL, STATIC = "full", "static"
"""Families of networks without halting: all model steps, and fewer."""
IMAGE, IMAGE_PIPELINED = "image", "image pipelined"
"""Families with image exit: model steps wait for the decision, or overlap until it ends the run."""
EPSILONS = (0.01, 0.1, 0.2, 0.35, 0.5)
"""Thresholds 1 - epsilon of trained halting."""
ALPHAS, BETAS = (1.0, -1.0), (-8.0, -6.0, -4.0, -2.0, 0.0)
"""Parameters of scores, sigmoid(alpha z_0 + beta), for a network that was trained without halting."""
LEADS = (0.9, 0.7, 0.5, 0.3, 0.1)
"""Quantiles of the lead of the largest logit: margins at which an image stops."""
FEWER = 16
"""Numbers of model steps that are tried besides all: a network of frames may have many."""
GROUPS = 16
"""Groups that blocks are cut into to be spread: trying all numbers takes longer and finds no better ones."""
CONTEXTS = (1, 2, 4, 8, 16)
FILL = (0.5, 1.0)
"""Shares of the cores of a chip."""
REPLICAS: tuple[int | Literal["fill"], ...] = (1, 2, 4, "fill")


@dataclass(frozen=True, kw_only=True)
class Space:
    """What is combined; each field is one axis of the search.

    Parameters
    ----------
    policies : tuple of str
        Halting policies; networks without halting, with all and with fewer model steps, are always included.
    epsilons, alphas, betas, leads : tuple of float
        Parameters of halting: `epsilons` of a model trained with halting, `alphas` and `betas` of one trained
        without, `leads` (quantiles on the images) of policy `image`.
    fewer : int
        How many numbers of model steps below all are tried, at even distances from 1 to all but one.
    bits : tuple of int
        Bits of weights.
    strategies : tuple of str
        How blocks are cut for cores.
    fill : tuple of float
        Shares of the cores of the chips it needs that a network is spread over, besides the fewest cores.
    replicas : tuple of int or "fill"
        Copies of the network on a chip.
    contexts : tuple of int
        Images on the same neurons, for mode stream.
    assumed : bool
        Whether deployments are included that need abilities no publication describes: model steps that end
        early, and a stem whose cores are stepped apart.
    """

    policies: tuple[HaltMode, ...] = HALT_MODES
    epsilons: tuple[float, ...] = EPSILONS
    alphas: tuple[float, ...] = ALPHAS
    betas: tuple[float, ...] = BETAS
    leads: tuple[float, ...] = LEADS
    fewer: int = FEWER
    bits: tuple[int, ...] = (8,)
    strategies: tuple[Strategy, ...] = STRATEGIES
    fill: tuple[float, ...] = FILL
    replicas: tuple[int | Literal["fill"], ...] = REPLICAS
    contexts: tuple[int, ...] = CONTEXTS
    assumed: bool = False

    def __post_init__(self) -> None:
        axes: tuple[tuple[str, Sequence[str], Sequence[str]], ...] = (
            ("halting policy", self.policies, tuple(POLICIES)),
            ("placement", self.strategies, STRATEGIES),
        )
        for kind, given, known in axes:
            for each in given:
                if each not in known:
                    raise unknown(kind, each, known)
        check_fields(self, {"fewer": whole(0)})
        for name in ("bits", "strategies", "replicas", "contexts"):
            if not getattr(self, name):
                raise InputError(f"{name}: nothing to try", "give at least one value")

    def without_tokens(self) -> Space:
        """Return the space without halting of tokens, for rivals."""
        return replace(self, policies=tuple(each for each in self.policies if POLICIES[each].by_image))


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A network to try.

    Parameters
    ----------
    model : str
        Label of the model it is made from; empty for the model that is optimised.
    family : str
        `full`, `static` (fewer model steps), or a halting policy; with ` late` if decisions are late, with
        ` pipelined` if model steps overlap until an image exits.
    options : mapping
        Fields of `CompileOptions` that make it.
    """

    model: str = ""
    family: str
    options: AnyMapping[str, Any] = field(default_factory=dict)

    @property
    def by_image(self) -> bool:
        """Whether it is made to exit early by the image, not by tokens."""
        return self.family in (IMAGE, IMAGE_PIPELINED)

    @property
    def name(self) -> str:
        """The model, the family and what distinguishes the network in it."""
        shown = ("steps", "epsilon", "alpha", "beta", "margin", "bits")
        words = [self.model, self.family]
        words += [f"{name}={self.options[name]:.3g}" for name in shown if name in self.options]
        words += ["summed"] if self.options.get("summed") else []
        return " ".join(filter(None, words))

    @property
    def recipe(self) -> tuple[tuple[str, Any], ...]:
        """The options without schedule and bits: networks that differ in these share their statistics."""
        return tuple(each for each in self.options.items() if each[0] not in ("bits", "schedule"))


@dataclass(frozen=True, kw_only=True)
class Placing:
    """How a network is placed: options of `CompileOptions`."""

    strategy: Strategy
    cores: int | None
    groups: int | None


def variants(
    space: Space,
    *,
    model: str,
    steps: int,
    trained: HaltMode | None,
    fixed: bool,
    exits: Sequence[AnyMapping[str, Any]],
) -> Iterator[Variant]:
    """List the networks that can be made from a model.

    Parameters
    ----------
    space : Space
    model : str
        Its label.
    steps : int
        Its model steps.
    trained : str or None
        The halting that it was trained with.
    fixed : bool
        Whether this halting cannot be changed, as in a graph.
    exits : sequence of mapping
        Options (`margin`, `summed`) of exits that are added. That of a model trained with it is included.
    """
    if trained is not None and fixed:
        yield from (Variant(model=model, family=trained, options={"bits": bits}) for bits in space.bits)
        return
    without = {"accumulate": "off"} if trained is not None else {}
    for bits in space.bits:
        own = {"bits": bits}
        yield Variant(model=model, family=FULL, options=without | own)
        for fewer in np.unique(np.linspace(1, steps - 1, min(space.fewer, steps - 1), dtype=int)).tolist():
            yield Variant(model=model, family=STATIC, options={**without, "steps": fewer, **own})
        if "image" in space.policies and steps > 1:
            caps = sorted({steps, max(steps // 2, 2)} & set(range(2, steps + 1)))
            ends: list[AnyMapping[str, Any]] = [{"halting": "image", **each} for each in exits]
            if trained is not None and POLICIES[trained].by_image:
                ends.append({"accumulate": trained})
            for end, cap in product(ends, caps):
                cut = {} if cap == steps else {"steps": cap}
                options = {**end, **cut, **own}
                yield Variant(model=model, family=IMAGE, options=options)
                overlapped = {**options, "schedule": "pipelined"}
                yield Variant(model=model, family=IMAGE_PIPELINED, options=overlapped)
        for policy in space.policies:
            if not POLICIES[policy].by_image:
                yield from _by_token(space, model, policy, trained, own)


def _by_token(
    space: Space, model: str, policy: HaltMode, trained: HaltMode | None, own: AnyMapping[str, Any]
) -> Iterator[Variant]:
    parameters: list[dict[str, Any]]
    if trained is not None:
        parameters = [{"accumulate": policy, "epsilon": epsilon} for epsilon in space.epsilons]
    else:
        pairs = product(space.alphas, space.betas)
        parameters = [{"halting": policy, "alpha": alpha, "beta": beta} for alpha, beta in pairs]
    for options in parameters:
        yield Variant(model=model, family=policy, options={**options, **own})
        if POLICIES[policy].may_be_late:
            late = {**options, "schedule": "pipelined-stale", **own}
            yield Variant(model=model, family=f"{policy} late", options=late)


def strategies(space: Space, profile: Profile, *, halts: bool) -> list[Strategy]:
    """List the strategies to try on a chip.

    Which tokens halt together matters only on a chip whose cores can be gated.
    """
    learns = halts and len(_gatings(profile)) > 1
    return [each for each in space.strategies if learns or each != "halting-aware"]


def spreads(
    space: Space, profile: Profile, tokens: int, fewest: Mapping, strategy: Strategy
) -> Iterator[Placing]:
    """List the placements to try that are spread over more cores than the fewest, of as many chips."""
    cores = profile.limit("cores_per_chip") * fewest.chips
    for share in space.fill:
        if len(fewest.cores) < (spread := round(share * cores)):
            yield Placing(strategy=strategy, cores=spread, groups=min(GROUPS, tokens))


def _gatings(profile: Profile) -> tuple[Gating, ...]:
    """Return the gating modes of a chip that do not compute halted tokens."""
    able: dict[str, tuple[Gating, ...]] = {
        "no": ("silent",),
        "core": ("silent", "core"),
        "power": ("silent", "core", "power"),
    }
    unknown = profile.reason("capabilities.core_gating") is not None
    return able["no" if unknown else profile.capability("core_gating")]


def deployments(
    space: Space, profile: Profile, mode: Mode, *, halts: bool, overlaps: bool = False
) -> list[Deployment]:
    """List the deployments to try on a chip; which of them a run allows is found when it is priced.

    Parameters
    ----------
    halts : bool
        Whether the network halts.
    overlaps : bool
        Whether its model steps overlap until its image exits, so that the run ends early as a pipeline.
    """
    gatings: tuple[Gating | None, ...] = _gatings(profile) if halts else ("silent",)
    if overlaps:  # what follows an exit is computed, and so priced: no gating can be chosen
        gatings = (None,)
    contexts = space.contexts if mode == "stream" else (1,)
    ends = (False, True) if halts and space.assumed else (False,)
    return [
        Deployment(
            gating=gating,
            mode=mode,
            contexts=many,
            schedule="raster" if many > 1 or (early and not overlaps) else None,
            replicas=replicas,
            early_end=early,
        )
        for gating, many, early, replicas in product(gatings, contexts, ends, space.replicas)
        if not (early and many > 1)
    ]
