"""One compilation as a sequence of steps, each of which can be called by itself."""

from __future__ import annotations

from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from stas_neuro import api
from stas_neuro.activity import Activity
from stas_neuro.backends import BACKENDS, Backend
from stas_neuro.bundle import Bundle
from stas_neuro.chips import Arithmetic, Profile, load_profile, settings_of
from stas_neuro.compiler.halting import HALTING_IMAGES, MAX_DROP, HaltingChoice, choose_halting
from stas_neuro.compiler.integers import SAMPLE_IMAGES, check_bits, look_at, quantiser
from stas_neuro.compiler.model import FOLDING, fold
from stas_neuro.compiler.options import PROFILE_IMAGES, CompileOptions, Images
from stas_neuro.compiler.shared import Compiler, key_of
from stas_neuro.data import LabelledImages
from stas_neuro.errors import InputError
from stas_neuro.ir import Graph, Stage
from stas_neuro.mapping import Mapping
from stas_neuro.passes import (
    AddHalting,
    DelayDecisions,
    FewerSteps,
    Pass,
    PipelineExit,
    Quantise,
    decisions_of,
    run_passes,
)
from stas_neuro.placement import DEFAULT_BITS, place
from stas_neuro.placement.limits import limits_of

_HALTING = ("accumulate", "epsilon", "readout", "max_visits", "token_groups")
"""Options that change the model before it is lowered."""


class Compilation:
    """One compilation: each step can be called by itself, and `bundle` does all of them.

    Parameters
    ----------
    compiler : Compiler
        The network, and the results that its compilations share.
    options : CompileOptions

    Raises
    ------
    InputError
        If options do not fit the network; each step raises it if it cannot be done.
    """

    def __init__(self, compiler: Compiler, options: CompileOptions) -> None:
        self.compiler = compiler
        self.options = options
        self.opened = compiler.opened
        self._check_options()

    def bundle(self) -> Bundle:
        """Do every step, and return the bundle of the graphs, the mapping and the origin."""
        self.refuse()
        network = self.schedule()
        quantised = self.quantise()
        mapping = self.place(quantised or network)
        options = {name: value for name, value in self._used().items() if value is not None}
        passes: list[dict[str, Any]] = []
        for each in map(recorded, self._passes()):
            if each not in passes:  # late decisions apply to both networks; record them once
                passes.append(each)
        return Bundle(network, self.opened.provenance(passes, options), {}, quantised, mapping)

    def refuse(self) -> None:
        """Check, before any work, that images and the chip exist and that the chip supports the integers."""
        options = self.options
        if self._chosen_bits is not None:
            check_bits(self._chosen_bits, self._arithmetic)
            self._load(options.calibrate)
        if options.chooses_halting:
            self._load(options.calibrate)
        if options.placement is not None:
            limits_of(self.chip)
            self._load(options.learnt_from)

    # Steps --------------------------------------------------------------------------------------------------

    def fold(self) -> Graph:
        """Lower the network, fold its normalisations, and cut its steps and add halting if requested."""
        added = self._added
        if added is None:
            return self._folded()
        return self.compiler.once(self._folding, lambda: run_passes(self._folded(), [added]))

    def schedule(self) -> Graph:
        """Fold, and change halting to use the scores that are available in the schedule."""
        decided = self._decided
        return self.fold() if decided is None else run_passes(self.fold(), [decided])

    def quantise(self) -> Graph | None:
        """Make the integer program, with the scales of fine-tuning or new ones; None if not requested.

        Scales are chosen for the network as trained, so that weights are the same for every schedule.
        """
        if self.options.bits is None and self.opened.quantised is not None:
            return self.opened.quantised
        if self._tuned is None and self._chosen_bits is None:
            return None
        options = self.options
        key: tuple[object, ...] = (*self._folding, options.schedule, options.late, options.backend)
        if self._chosen_bits is not None:
            key += (self._chosen_bits, key_of(options.calibrate), self._arithmetic, options.input_encoding)
            key += (options.exponents,)
        return self.compiler.once(("quantise", *key), self._quantised)

    def place(self, graph: Graph) -> Mapping | None:
        """Place a network on cores; a run on images, if given, measures which tokens halt together."""
        options = self.options
        if options.placement is None:
            return None
        bits = options.bits if options.bits is not None else self.opened.bits
        return place(
            graph,
            self.chip,
            strategy=options.placement,
            groups=options.groups,
            seen=self._seen(graph),
            minimise=options.minimise or "cores",
            cores=options.cores,
            deployment=options.deployed,
            bits=DEFAULT_BITS if bits is None else bits,
        )

    # Inputs of steps ----------------------------------------------------------------------------------------

    @cached_property
    def chip(self) -> Profile:
        """The chip of the options."""
        return load_profile(self.options.chip)

    @property
    def _arithmetic(self) -> Arithmetic:
        if self.chip.arithmetic is None:
            what = f"{self.chip.name} has no cores for the integer program: {self.chip.no_arithmetic}"
            raise InputError(what, "use loihi1 or loihi2")
        return self.chip.arithmetic

    @property
    def _tuned(self) -> Quantise | None:
        """The pass of fine-tuning, if the options use it."""
        tuned = self.opened.tuned
        if tuned is None or self.options.of_integers or self.options.bits not in (None, tuned.bits):
            return None
        return tuned

    @property
    def _chosen_bits(self) -> int | None:
        """Bits of the weights if new scales are chosen; else None."""
        return None if self._tuned is not None else self.options.bits

    @property
    def _backend(self) -> Backend | None:
        return None if self.options.backend is None else BACKENDS.get(self.options.backend)

    @cached_property
    def choice(self) -> HaltingChoice | None:
        """Halting whose parameters are chosen on images; None if it is given, or not added."""
        options, images = self.options, self.options.calibrate
        if not options.chooses_halting:
            return None
        assert options.halting is not None and images is not None  # the options require them
        mode, max_drop = options.halting, MAX_DROP if options.max_drop is None else options.max_drop
        return self.compiler.once(
            ("choose", *self._lowering, mode, max_drop, *self._of_any_halting.values(), key_of(images)),
            lambda: choose_halting(
                self._folded(),
                mode,
                self.compiler.images(images, "calibrate", HALTING_IMAGES),
                max_drop=max_drop,
                **self._of_any_halting,
                progress=self.compiler.progress,
            ),
        )

    @property
    def _of_any_halting(self) -> dict[str, Any]:
        """Options that are of halting that is added as of that which was trained."""
        return {"max_visits": self.options.max_visits, "token_groups": self.options.token_groups}

    @property
    def _added(self) -> AddHalting | None:
        """The pass that adds halting, if requested."""
        return self.options.added_halting if self.choice is None else self.choice.halting

    @property
    def _overrides(self) -> dict[str, Any]:
        """Options with which the model is lowered; halting that is added replaces the trained one."""
        words = {name: getattr(self.options, name) for name in _HALTING}
        if self.options.halting is None:
            return words
        trained = None if isinstance(self.opened.network, Graph) else "off"
        return words | {"accumulate": trained, "epsilon": None, "max_visits": None, "token_groups": None}

    @property
    def _lowering(self) -> tuple[object, ...]:
        return ("lower", *self._overrides.values(), self.options.steps)

    @property
    def _folding(self) -> tuple[object, ...]:
        return ("fold", *self._lowering, self._added)

    def _folded(self) -> Graph:
        network = self.opened.network
        if network is None:
            raise InputError("the graph is quantised already", "give the folded graph")
        cut = self._cut

        def lowered() -> Graph:
            graph = fold(network, **self._overrides)
            return graph if cut is None else run_passes(graph, [cut])

        return self.compiler.once(self._lowering, lowered)

    @property
    def _cut(self) -> FewerSteps | None:
        return None if self.options.steps is None else FewerSteps(self.options.steps)

    def _load(self, images: Images | None) -> None:
        if images is not None:
            self.compiler.load(images)

    @cached_property
    def _decided(self) -> DelayDecisions | PipelineExit | None:
        if self.options.schedule is None:
            return None
        return decisions_of(self.fold(), self.options.schedule, self.options.late)

    @cached_property
    def _quantise(self) -> Quantise | None:
        options, given = self.options, self.options.calibrate
        if self._chosen_bits is None:
            return self._tuned
        seen = None
        if given is not None:
            seen = self.compiler.once(
                ("look", *self._folding, key_of(given)),
                lambda: look_at(self.fold(), self.compiler.images(given, "calibrate", SAMPLE_IMAGES)),
            )
        return quantiser(
            seen,
            bits=self._chosen_bits,
            arithmetic=self._arithmetic,
            encoding=options.input_encoding or "graded",
            exponents=options.exponents,
        )

    @cached_property
    def _integer_passes(self) -> tuple[Pass, ...]:
        prepare = () if self._backend is None else self._backend.prepare()
        steps: tuple[Pass | None, ...] = (self._quantise, self._decided, *prepare)
        return tuple(each for each in steps if each is not None)

    def _quantised(self) -> Graph:
        quantised = run_passes(self.fold(), self._integer_passes)
        if self._backend is not None:
            self._backend.check(quantised)
        return quantised

    def _seen(self, graph: Graph) -> Activity | None:
        given, limit = self.options.learnt_from, self.options.limit or PROFILE_IMAGES
        if given is None:
            return None
        images = self.compiler.images(given, "profiling run", limit)
        fixed = graph.stage == Stage.QUANTISED
        return self.compiler.once(
            ("profile", key_of(graph), key_of(given), limit),
            lambda: (
                api.run(
                    graph,
                    images,
                    arithmetic="fixed" if fixed else "float",
                    dtype=np.float64 if fixed else np.float32,
                    limit=limit,
                    per_image=True,
                    progress=self.compiler.progress,
                ).activity
            ),
        )

    def _check_options(self) -> None:
        options, opened = self.options, self.opened
        halting = [name for name, value in self._overrides.items() if value is not None]
        if opened.weights is not None and halting:
            what = f"{opened.weights.path} has no halting to override"
            raise InputError(what, f"leave out {halting[0]}")
        if opened.network is None and options.bits is not None:
            what = f"bits {options.bits}: the graph is quantised already"
            raise InputError(what, "give the folded graph, or no bits")
        changed = options.halting or options.schedule or options.backend
        if opened.quantised is not None and options.bits is None and changed:
            what = "the network has an integer program already, and halting, a schedule or a backend is given"
            raise InputError(what, "give bits too, to quantise it again")
        if options.bits is None and options.of_integers:
            what = f"{options.of_integers[0]} affects the integer program, and no bits are given"
            remedy = "give bits, or leave it out to use the trained scales of a fine-tuned model"
            raise InputError(what, remedy if opened.tuned else "give bits")
        if options.backend is not None and options.bits is None and opened.tuned is None:
            raise InputError(f"backend {options.backend} requires an integer program", "give bits too")

    # Record -------------------------------------------------------------------------------------------------

    def _used(self) -> dict[str, Any]:
        """Return the options that took effect."""
        options = self.options
        used = self._overrides | {"steps": options.steps, "schedule": options.schedule}
        if (added := self._added) is not None:
            del used["accumulate"]
            parameters = ("alpha", "beta", "epsilon", "margin", "summed")
            used |= {"halting": added.mode, **{name: getattr(added, name) for name in parameters}}
            used |= self._of_any_halting
        if isinstance(self._decided, DelayDecisions):
            used["late"] = self._decided.late
        if self._tuned is not None:
            used["bits"] = self._tuned.bits
        elif options.bits is not None:
            used |= {
                "bits": options.bits,
                "calibrate": _name(options.calibrate),
                **self._recorded_chip(),
                "input_encoding": options.input_encoding or "graded",
                "exponents": options.exponents,
            }
        used["backend"] = options.backend
        if options.placement is not None:
            used |= {
                "placement": options.placement,
                **self._recorded_chip(),
                "groups": options.groups,
                "minimise": options.minimise,
                "profile_run": _name(options.learnt_from),
                "limit": options.limit,
            }
            # Records of bundles without these options stay as they are.
            further = {name: getattr(options, name) for name in ("cores", "mode", "contexts")}
            used |= {name: given for name, given in further.items() if given is not None}
        return used

    def _recorded_chip(self) -> dict[str, str | None]:
        """Return the name of the chip, and what was set in its profile, as `parse_settings` reads it."""
        given = settings_of(self.chip)
        words = {"set": ", ".join(f"{name}={value}" for name, value in given.items())} if given else {}
        return {"profile": _name(self.options.chip), **words}

    def _passes(self) -> list[Pass]:
        """Return the passes that ran, in order."""
        network = self.opened.network
        folded = isinstance(network, Graph) and network.stage == Stage.FOLDED
        ran: list[Pass] = [] if folded else [*FOLDING]
        ran += [each for each in (self._cut, self._added, self._decided) if each is not None]
        return ran if self._quantise is None else [*ran, *self._integer_passes]


def _name(given: Images | Profile | Path | None) -> str | None:
    """Return the name of an argument, to record it."""
    if given is None or isinstance(given, str | Path):
        return given if given is None else str(given)
    return given.source if isinstance(given, LabelledImages) else given.name


def recorded(rewrite: Pass) -> dict[str, Any]:
    """Return the name of a pass and those of its arguments that are strings or numbers."""
    arguments = {each.name: getattr(rewrite, each.name) for each in fields(rewrite)}  # type: ignore[arg-type]
    plain = {name: value for name, value in arguments.items() if isinstance(value, str | int | float)}
    return {"pass": type(rewrite).__name__, **plain}
