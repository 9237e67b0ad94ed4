"""How a network is run on a chip: the options that pricing takes, in one place."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as AnyMapping
from dataclasses import dataclass, replace
from typing import Literal

from stas_neuro.activity import Activity, record_halts
from stas_neuro.chips.errors import CannotRun
from stas_neuro.chips.profile import Profile
from stas_neuro.choices import (
    GATINGS,
    IDLE_UPDATES,
    MODES,
    SCHEDULES,
    STEMS,
    Gating,
    IdleUpdate,
    Mode,
    Schedule,
    Stem,
)
from stas_neuro.energy.early_end import exits_by_image
from stas_neuro.energy.gating import gating_of
from stas_neuro.energy.timing import fastest
from stas_neuro.errors import InputError, unknown
from stas_neuro.kinds import FLAG, Kind, Take, check_fields, whole

CONTEXTS_LIMIT = 256
"""Largest number of images on the same neurons: a core of 8192 neurons would hold 32 of each."""
REPLICAS_LIMIT = 1 << 20
"""Largest number of copies of a network."""
_NO_CONTEXTS = "use one context: each image is in another stage already, so the neurons hold only one"
_TOGETHER = "{} images on the same neurons do not end their steps together"
_KINDS: AnyMapping[str, Take] = {
    "contexts": whole(),
    "replicas": Kind("a whole number, or 'fill'", lambda value: value == "fill" or whole().accepts(value)),
    "early_end": FLAG,
    "microcode": FLAG,
    "weight_bits": whole(1),
}
"""Kinds of the options that are no names."""
IdleWord = Literal["stepped", "skipped", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Options of a deployment; the defaults are one network and one image on a chip as published.

    Parameters
    ----------
    gating : one of `GATINGS`, optional
        How halted tokens are treated. Default: `none` for a run that computed them, else `silent`.
    schedule : one of `SCHEDULES`, optional
        How model steps become hardware steps. Default: the fastest that the run allows.
    mode : "single" or "stream"
        Whether energy and latency are those of an image alone, or of one in a stream of images like it.
    contexts : int
        Images in flight on the same neurons, each with its own membranes: a neuron serves context h mod
        `contexts` in hardware step h. Needs mode stream.
    replicas : int or "fill"
        Copies of the network; "fill" is as many as one chip holds.
    early_end : bool
        Whether a model step ends when no token is alive, and a run when its image halts.
    stem : "shared", "apart" or "folded"
        Whether the neurons of a stem that is computed once are stepped with the others (`STEMS`).
    microcode : bool
        Whether neurons that need a program of their own take the time of one.
    idle_update : "stepped" or "skipped", optional
        Whether neurons without work are updated. Default: as the profile says; stepped if it does not.
    weight_bits : int
        Bits of a weight in synaptic memory. For a run on cores it does not change the placement.

    Raises
    ------
    InputError
        When an option is unknown or contradicts another one, with all problems.
    """

    gating: Gating | None = None
    schedule: Schedule | None = None
    mode: Mode = "single"
    contexts: int = 1
    replicas: int | Literal["fill"] = 1
    early_end: bool = False
    stem: Stem = "shared"
    microcode: bool = False
    idle_update: IdleUpdate | None = None
    weight_bits: int = 8

    def __post_init__(self) -> None:
        check_fields(self, _KINDS)
        _refuse(self._problems())

    def _problems(self) -> Iterator[tuple[str, str]]:
        for name, known in (
            ("gating", GATINGS),
            ("schedule", SCHEDULES),
            ("mode", MODES),
            ("stem", STEMS),
            ("idle_update", IDLE_UPDATES),
        ):
            given = getattr(self, name)
            if given is not None and given not in known:
                error = unknown(name, given, known)
                yield error.what, error.remedy
        if not 1 <= self.contexts <= CONTEXTS_LIMIT:
            yield f"contexts is {self.contexts}", f"use 1 to {CONTEXTS_LIMIT}"
        if self.replicas != "fill" and not 1 <= self.replicas <= REPLICAS_LIMIT:
            yield f"replicas is {self.replicas}", f"use 1 to {REPLICAS_LIMIT}, or fill"
        if self.contexts > 1 and self.mode != "stream":
            yield (
                f"{self.contexts} contexts hold images of a stream",
                "use the mode stream",
            )
        if self.contexts > 1 and self.schedule == "pipelined":
            yield f"{self.contexts} contexts on the schedule pipelined", _NO_CONTEXTS
        if self.contexts > 1 and self.early_end:
            yield _TOGETHER.format(self.contexts), "use one context, or do without early_end"
        if self.contexts > 1 and self.stem == "folded":
            yield f"a folded stem has no neurons of its own for {self.contexts} contexts", "use one context"
        if self.early_end and self.schedule == "pipelined-stale":
            yield (
                f"early_end on the schedule {self.schedule}, whose model steps overlap",
                "use the schedule raster, or halting image",
            )

    def schedule_of(self, activity: Activity) -> Schedule:
        """Return the schedule of a run: the given one, or the fastest that it allows."""
        return self.schedule or fastest(activity)

    def idle_of(self, profile: Profile) -> IdleUpdate:
        """Return whether idle neurons are priced as stepped: the given option, else what the chip does.

        Where that is unknown they are stepped, which costs more.
        """
        return self.idle_update or ("skipped" if idle_word(profile) == "skipped" else "stepped")

    def prices_both(self, profile: Profile) -> bool:
        """Return whether idle neurons are priced both ways: it is unknown what the chip does with them."""
        steps = profile.reason("time") is None
        return self.idle_update is None and steps and idle_word(profile) == "unknown"

    def check(self, activity: Activity, profile: Profile) -> None:
        """Refuse what this run does not allow, or what this chip cannot do.

        Raises
        ------
        InputError
            When the schedule of the run contradicts an option, with all problems.
        CannotRun
            When the chip lacks what an option needs.
        """
        schedule = self.schedule_of(activity)
        _refuse(self._problems_of(activity, schedule))
        for name, needs, able, remedy in (
            ("early_end", "processor", self.early_end, "it needs one that a halting unit can tell to go on"),
            ("microcode", "neuron_programs", self.microcode, "leave it out: all of its neurons are stock"),
        ):
            word = f"capabilities.{needs}"
            lacks = profile.reason(word) if able else None
            if able and lacks is None and profile.capability(needs) == "no":
                lacks = "no"
            if lacks is not None:
                raise CannotRun(f"{name} on profile {profile.name}, whose {word} is: {lacks}", remedy)

    def _problems_of(self, activity: Activity, schedule: Schedule) -> Iterator[tuple[str, str]]:
        if self.contexts > 1 and schedule == "pipelined":
            yield f"{self.contexts} contexts on the schedule pipelined", _NO_CONTEXTS
        exits = exits_by_image(activity)
        if self.early_end and schedule != "raster" and not exits:
            yield (
                f"early_end on the schedule {schedule}, whose model steps overlap",
                "use the schedule raster, or halting image",
            )
        if self.early_end and (not record_halts(activity.layers) or activity.visits is None):
            yield "early_end, and the run has no halting or no visits", "leave it out"
        if self.early_end and not exits and gating_of(activity, self.gating) == "none":
            yield "early_end with gating none, which computes halted tokens", "use another gating"
        if self.stem == "folded" and self.mode == "stream" and schedule == "pipelined":
            what = "the next image needs the neurons of a folded stem while this one is in the blocks"
            yield what, "use the schedule raster, or the stem apart"
        if self.stem == "folded" and activity.cores:
            yield "a folded stem in a run on cores, which was placed without", "run with --no-mapping"

    def without_halting(self, schedule: Schedule | None = None) -> Deployment:
        """Return the options for a run that does not halt: its own schedule, without what halting needs."""
        return replace(self, schedule=schedule, contexts=1, early_end=False)

    def on_schedule(self, schedule: Schedule) -> Deployment:
        """Return the same options on a schedule, with one context where it takes no more."""
        return replace(self, schedule=schedule, contexts=1 if schedule == "pipelined" else self.contexts)


def idle_word(profile: Profile) -> IdleWord:
    """Return what a chip does with idle neurons; unknown if the profile does not say."""
    found = profile.capabilities.get("idle_update")
    value = "unknown" if found is None else found.value
    return "skipped" if value == "skipped" else "stepped" if value == "stepped" else "unknown"


def _refuse(problems: Iterator[tuple[str, str]]) -> None:
    """Raise InputError with all problems, each with its remedy."""
    found = list(dict.fromkeys(problems))
    if found:
        first, *others = found
        more = "".join(f"; {what}: {remedy}" for what, remedy in others)
        raise InputError(first[0], first[1] + more)


DEFAULT = Deployment()
"""One network and one image at a time, on a chip as published."""
