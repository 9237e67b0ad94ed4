"""Options of a compilation, shared by Python and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stas_neuro.backends import BACKENDS
from stas_neuro.chips import Profile
from stas_neuro.choices import DEFAULT_PROFILE as DEFAULT_PROFILE
from stas_neuro.choices import MODES, SPREADS, Mode, Spread
from stas_neuro.choices import PROFILE_IMAGES as PROFILE_IMAGES
from stas_neuro.data import LabelledImages
from stas_neuro.energy import Deployment
from stas_neuro.errors import InputError, unknown
from stas_neuro.ir import POLICIES, Encoding, HaltMode
from stas_neuro.kinds import FLAG, Kind, Take, check_fields, number, optional, whole
from stas_neuro.models.config import ACCUMULATIONS, READOUTS
from stas_neuro.passes import SCHEDULES, AddHalting
from stas_neuro.placement import OBJECTIVES, STRATEGIES, Objective, Strategy

_CHIP = Kind(
    "a Profile, the name of one, or the path of a .toml file",
    lambda value: isinstance(value, Profile | str | Path),
)
_KINDS: Mapping[str, Take] = {
    **dict.fromkeys(("epsilon", "alpha", "beta", "margin"), optional(number())),
    "summed": FLAG,
    "max_drop": optional(number(0, 1)),
    **dict.fromkeys(("steps", "groups", "cores", "contexts", "limit"), optional(whole())),
    "bits": optional(whole()),
    "late": optional(whole()),
    "profile": optional(_CHIP),
}
"""Kinds of the options that are no names."""
Images = LabelledImages | str
"""Images, or a source as for ``--data``: a file, or the name of a known data set."""


@dataclass(frozen=True, kw_only=True)
class CompileOptions:
    """Options of `compile`, with the same names as on the command line.

    Parameters
    ----------
    accumulate, epsilon, readout : optional
        Override the trained accumulation mode, halting threshold (1 - epsilon) and readout;
        ``accumulate="off"`` ignores halting.
    max_visits : int, optional
        Number of visits (a block at a time step) after which a token halts whatever its score; of trained
        halting, or of `halting`.
    token_groups : int, optional
        Number of groups of tokens, in scan order, that halt together; of trained halting, or of `halting`.
    steps : int, optional
        Run only the first model steps of the network. Default: all.
    halting : str, optional
        Add this halting policy to a network that was trained without, instead of the trained halting.
    max_drop : float, optional
        Largest loss of accuracy, as a share, by which the parameters of `halting` are chosen on the images of
        `calibrate` (`choose_halting`). Default: 0.01.
    alpha, beta, margin : float, optional
        Parameters of `halting`, with `epsilon`: if one is given, none is chosen.
    summed : bool
        Whether `margin` is that of the sum of the logits over the steps so far, and not of their mean.
    bits : int, optional
        Also make the integer program, with weights of 2 to 9 bits. A model fine-tuned to integers is compiled
        with the bits and scales it was trained with if this and the next three options are not given.
    calibrate : images, optional
        Choose scales, and the parameters of `halting`, with these images; the training images of a known data
        set are used.
    profile : Profile, str or Path, optional
        The chip for the integer program and for `placement`. Default: loihi2.
    exponents : "none", optional
        Give weights no exponents, as `convert --to netx` needs it. Default: those of the chip.
    input_encoding : "graded", "bias" or "spikes", optional
        Send pixels to the cores as graded spikes (default), or compute the first layer on the processor and
        send its output as biases.
    backend : str, optional
        Adapt the integer program to this backend, and refuse what it cannot run: for "lava-stock" biases are
        rounded to values that the synapses of stock Lava processes can send.
    schedule : str, optional
        Which scores halting uses: all of them, or with "pipelined-stale" (late decisions) only those that
        have arrived in a pipeline.
    late : int, optional
        Hardware steps by which decisions are late; requires "pipelined-stale". Default: number of stages - 1.
    placement : str, optional
        Place the network on the cores of the chip: by channels, by tokens, or by tokens that halt together.
    groups : int, optional
        Number of groups into which `placement` divides each block. Default: the number that needs the fewest
        cores.
    minimise : str, optional
        What placement minimises: the number of "cores" (default), or the "energy" or "latency" of an image of
        `profile_run`; "core-steps" (default) or "neuron-updates" are objectives of "halting-aware" groups.
    cores : int, optional
        Largest number of cores of `placement`, over which the network is spread.
    mode : "single" or "stream", optional
        Whether `minimise` is of an image alone (default) or in a stream of images.
    contexts : int, optional
        Images that share each neuron, with a membrane each, which cores must hold. Default: 1.
    profile_run : images, optional
        Images from which placement learns which tokens halt together. Default: those of `calibrate`.
    limit : int, optional
        Use only the first `limit` images of `profile_run`. Default: 2000.

    Raises
    ------
    InputError
        When an option is unknown, or requires another one that is not given.
    """

    accumulate: str | None = None
    epsilon: float | None = None
    readout: str | None = None
    max_visits: int | None = None
    token_groups: int | None = None
    steps: int | None = None
    halting: HaltMode | None = None
    max_drop: float | None = None
    alpha: float | None = None
    beta: float | None = None
    margin: float | None = None
    summed: bool = False
    bits: int | None = None
    calibrate: Images | None = None
    profile: Profile | str | Path | None = None
    input_encoding: Encoding | None = None
    exponents: Literal["none"] | None = None
    backend: str | None = None
    schedule: str | None = None
    late: int | None = None
    placement: Strategy | None = None
    groups: int | None = None
    minimise: Objective | Spread | None = None
    cores: int | None = None
    mode: Mode | None = None
    contexts: int | None = None
    profile_run: Images | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        check_fields(self, _KINDS)
        choices = (
            ("accumulate", ACCUMULATIONS),
            ("readout", READOUTS),
            ("input_encoding", ("graded", "bias", "spikes")),
            ("exponents", ("none",)),
            ("halting", tuple(POLICIES)),
            ("backend", BACKENDS.names()),
            ("schedule", SCHEDULES),
            ("placement", STRATEGIES),
            ("minimise", (*SPREADS, *OBJECTIVES)),
            ("mode", tuple(MODES)),
        )
        for name, known in choices:
            value = getattr(self, name)
            if value is not None and value not in known:
                raise unknown(name, value, known)
        self._check_halting()
        if self.late is not None and self.schedule != "pipelined-stale":
            raise InputError(
                f"late ({self.late}) requires the schedule pipelined-stale",
                "give that schedule, or leave late out",
            )
        if self.placement is None:
            for name in ("groups", "minimise", "cores", "mode", "contexts", "profile_run", "limit"):
                if getattr(self, name) is not None:
                    raise InputError(f"{_option(name)} requires a placement", "give a placement too")
        if self.minimise in OBJECTIVES and self.placement != "halting-aware":
            raise InputError(
                f"minimise {self.minimise} requires halting-aware placement, and it is {self.placement}",
                "leave it out, or place with halting-aware",
            )
        if self.cores is not None and self.cores < 1:
            raise InputError(f"cores is {self.cores}", "give at least 1")
        self.deployed  # noqa: B018 - checks mode and contexts
        if self.limit is not None and self.learnt_from is None:
            raise InputError("limit requires a profile-run", "give the images of a profiling run too")

    def _check_halting(self) -> None:
        for name in ("max_visits", "token_groups"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise InputError(f"{_option(name)} is {number}", "give at least 1")
            if number is not None and self.accumulate == "off":
                what = f"{_option(name)} is of halting, and accumulate is off"
                raise InputError(what, "leave one of them out")
        parameters = [name for name in ("alpha", "beta", "margin") if getattr(self, name) is not None]
        by_image = self.halting is not None and POLICIES[self.halting].by_image
        if self.summed and (self.margin is None or not by_image):
            what = "summed is of the margin of halting image that is added"
            raise InputError(what, "give halting image and margin too, or leave summed out")
        if self.halting is None:
            for name in (*parameters, *(["max_drop"] if self.max_drop is not None else [])):
                raise InputError(f"{_option(name)} is of halting that is added", "give halting too")
            return
        if self.accumulate is not None:
            raise InputError(
                f"halting {self.halting} replaces the trained halting, and accumulate is {self.accumulate}",
                "give one of the two",
            )
        if self.chooses_halting:
            if self.calibrate is None:
                what = f"the parameters of halting {self.halting} are chosen on images, and none are given"
                raise InputError(what, "give calibrate, or alpha and beta (image: margin)")
        elif self.max_drop is not None:
            raise InputError(
                "max-drop chooses the parameters of halting, and some are given", "leave out one of the two"
            )

    @property
    def added_halting(self) -> AddHalting | None:
        """Halting with the given parameters; None without, or if they are to be chosen."""
        names = ("alpha", "beta", "epsilon", "margin")
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.halting is None or not given:
            return None
        return AddHalting(
            mode=self.halting,
            max_visits=self.max_visits,
            token_groups=self.token_groups,
            summed=self.summed,
            **given,
        )

    @property
    def chooses_halting(self) -> bool:
        """Whether the parameters of halting that is added are to be chosen."""
        return self.halting is not None and self.added_halting is None

    @property
    def chip(self) -> Profile | str | Path:
        """The chip for which the program is compiled."""
        return self.profile or DEFAULT_PROFILE

    @property
    def deployed(self) -> Deployment:
        """How the network will run, as far as its placement depends on that."""
        contexts = 1 if self.contexts is None else self.contexts
        return Deployment(mode=self.mode or ("stream" if contexts > 1 else "single"), contexts=contexts)

    @property
    def learnt_from(self) -> Images | None:
        """Images of the profiling run."""
        return self.profile_run or self.calibrate

    @property
    def of_integers(self) -> tuple[str, ...]:
        """Names of the given options that affect quantisation."""
        asks_chip = self.profile is not None and (self.placement is None or self.bits is not None)
        given = {
            "calibrate": self.calibrate is not None and (self.bits is not None or not self.chooses_halting),
            "profile": asks_chip,
            "input_encoding": self.input_encoding is not None,
            "exponents": self.exponents is not None,
        }
        return tuple(_option(name) for name, is_given in given.items() if is_given)


def _option(name: str) -> str:
    return name.replace("_", "-")
