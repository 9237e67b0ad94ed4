"""The compiler: from a trained model to a bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stas_neuro import api
from stas_neuro.backends import BACKENDS
from stas_neuro.bundle import Bundle, Provenance
from stas_neuro.chips import Profile, load_profile
from stas_neuro.compiler.halting import HALTING_IMAGES, MAX_DROP, HaltingChoice, choose_halting
from stas_neuro.compiler.integers import SAMPLE_IMAGES, load_scales, quantiser
from stas_neuro.compiler.options import PROFILE_IMAGES, CompileOptions, Images
from stas_neuro.data import LabelledImages, load_data
from stas_neuro.errors import InputError
from stas_neuro.importers.weights import Weights, WeightsOptions, open_weights
from stas_neuro.ir import Graph, Stage
from stas_neuro.labels import bias_of_first
from stas_neuro.mapping import Mapping
from stas_neuro.passes import FoldBatchNorm, Pass, Quantise, decisions_of, run_passes
from stas_neuro.placement import place

if TYPE_CHECKING:
    from stas_neuro.models.stas import StasModel

Note = Callable[[str], None]
"""Called with remarks for the user about the given images."""
Chosen = Callable[[HaltingChoice], None]


def compile(
    model: StasModel | Weights | str | Path,
    options: CompileOptions | None = None,
    *,
    note: Note | None = None,
    progress: api.Progress | None = None,
    chosen: Chosen | None = None,
    **words: Any,
) -> Bundle:
    """Compile a trained model.

    Parameters
    ----------
    model : StasModel, Weights, str or Path
        A model, what `open_weights` gave, or the directory of a checkpoint.
    options : CompileOptions, optional
        The options; or give its fields as keywords: ``compile("runs/digits", bits=8, calibrate="digits")``.
    note : callable, optional
        Called with a sentence if the given images are not a random sample.
    progress : callable, optional
        Called with the number of finished images and the total number of images of a profiling run.
    chosen : callable, optional
        Called with the `HaltingChoice` if parameters of halting are chosen.

    Returns
    -------
    Bundle
        The bundle in memory; `save_bundle` writes it. Its provenance records options and passes.

    Raises
    ------
    InputError
        If the checkpoint is missing or damaged, options conflict, or a graph cannot express the network (all
        reasons at once, each with its node).
    """
    if options is None:
        options = CompileOptions(**words)
    elif words:
        raise InputError("options are given twice", "give CompileOptions, or keywords")
    work = _Compilation(
        model, options, note or (lambda sentence: None), progress, chosen or (lambda choice: None)
    )
    folded = work.halt(work.fold())
    network = work.schedule(folded)
    quantised = work.quantise(folded)
    mapping = work.place(quantised or network)
    return work.bundle(network, quantised, mapping)


def replay(bundle: Bundle) -> Bundle:
    """Compile a bundle again, from the checkpoint and the options that it records.

    Raises
    ------
    InputError
        As `compile`; or when the bundle does not record a checkpoint.
    """
    if not bundle.provenance.source:
        raise InputError("the bundle was compiled from a model in memory", "compile that model again")
    options: dict[str, Any] = dict(bundle.provenance.options)
    if (weights := WeightsOptions.of_words(options)) is not None:
        options = {name: options[name] for name in options if name not in weights.as_words()}
        return compile(open_weights(bundle.provenance.source, weights), **options)
    if "input_encoding" not in options:
        options.pop("bits", None)  # the width of fine-tuning, which the checkpoint contains
    return compile(bundle.provenance.source, **options)


@dataclass
class _Compilation:
    """One compilation: its inputs, and the options and passes that it records."""

    model: StasModel | Weights | str | Path
    options: CompileOptions
    note: Note
    progress: api.Progress | None
    chosen: Chosen
    passes: list[dict[str, Any]] = field(default_factory=list)
    used: dict[str, Any] = field(default_factory=dict)
    """Options that took effect."""

    def fold(self) -> Graph:
        """Load the model, lower it to a graph, and fold its normalisations."""
        words = {name: getattr(self.options, name) for name in ("accumulate", "epsilon", "readout")}
        if self.options.halting is not None:
            words |= {"accumulate": "off", "epsilon": None}
        if isinstance(self.model, Weights):
            if given := [name for name, value in words.items() if value not in (None, "off")]:
                raise InputError(f"{self.model.path} has no halting to override", f"leave out {given[0]}")
            return self._apply(self.model.graph, FoldBatchNorm())
        self.used |= words
        return self._apply(api.lower(self.model, **words), FoldBatchNorm())

    def halt(self, folded: Graph) -> Graph:
        """Add halting, with the given parameters or those that the images allow."""
        options = self.options
        if options.halting is None:
            return folded
        added = options.added_halting
        if added is None:
            images = self._images(options.calibrate, "calibrate", HALTING_IMAGES)
            assert images is not None  # the options require it
            max_drop = MAX_DROP if options.max_drop is None else options.max_drop
            choice = choose_halting(folded, options.halting, images, max_drop=max_drop)
            self.chosen(choice)
            added = choice.halting
        self.used.pop("accumulate", None)
        parameters = {name: getattr(added, name) for name in ("alpha", "beta", "epsilon", "margin")}
        self.used |= {"halting": added.mode, **parameters}
        return self._apply(folded, added)

    def schedule(self, folded: Graph) -> Graph:
        """Change halting to use the scores that are available in the schedule."""
        if self.options.schedule is None:
            return folded
        decided = decisions_of(folded, self.options.schedule, self.options.late)
        self.used |= {"schedule": self.options.schedule}
        if decided is None:
            return folded
        self.used["late"] = decided.late
        return self._apply(folded, decided)

    def quantise(self, folded: Graph) -> Graph | None:
        """Make the integer program, with the scales of fine-tuning or new ones; None if not requested.

        Scales are chosen for the network as trained, so that weights are the same for every schedule.
        """
        chosen = self._quantiser(folded)
        backend = None if self.options.backend is None else BACKENDS.get(self.options.backend)
        if chosen is None:
            if backend is not None:
                raise InputError(
                    f"backend {self.options.backend} requires an integer program", "give bits too"
                )
            return None
        passes: list[Pass] = [chosen]
        if self.options.schedule is not None:
            decided = decisions_of(folded, self.options.schedule, self.options.late)
            passes += [] if decided is None else [decided]
        if backend is not None:
            passes += backend.prepare()
            self.used["backend"] = self.options.backend
        quantised = self._apply(folded, *passes)
        if backend is not None:
            backend.check(quantised)
        return quantised

    def _quantiser(self, folded: Graph) -> Quantise | None:
        options = self.options
        tuned = load_scales(Path(self.model)) if isinstance(self.model, str | Path) else None
        if options.bits is None and options.of_integers:
            what = f"{options.of_integers[0]} affects the integer program, and no bits are given"
            remedy = "give bits, or leave it out to use the trained scales of a fine-tuned model"
            raise InputError(what, remedy if tuned else "give bits")
        if tuned is not None and not options.of_integers and options.bits in (None, tuned.bits):
            self.used["bits"] = tuned.bits
            return tuned
        if options.bits is None:
            return None
        chip = _profile(options.chip)
        if chip.arithmetic is None:
            what = f"{chip.name} has no cores for the integer program: {chip.no_arithmetic}"
            raise InputError(what, "use loihi1 or loihi2")
        sample = self._images(options.calibrate, "calibrate", SAMPLE_IMAGES)
        self.used |= {
            "bits": options.bits,
            "calibrate": _name(options.calibrate),
            "profile": _name(options.chip),
            "input_encoding": options.input_encoding or "graded",
        }
        return quantiser(
            folded,
            sample,
            bits=options.bits,
            arithmetic=chip.arithmetic,
            encoding=options.input_encoding or "graded",
        )

    def place(self, graph: Graph) -> Mapping | None:
        """Place the network on cores; a run on images, if given, measures which tokens halt together."""
        options = self.options
        if options.placement is None:
            return None
        limit = options.limit or PROFILE_IMAGES
        images = self._images(options.learnt_from, "profiling run", limit)
        seen = None
        if images is not None:
            fixed = graph.stage == Stage.QUANTISED
            seen = api.run(
                graph,
                images,
                arithmetic="fixed" if fixed else "float",
                dtype=np.float64 if fixed else np.float32,
                limit=limit,
                progress=self.progress,
            ).activity
        self.used |= {
            "placement": options.placement,
            "profile": _name(options.chip),
            "groups": options.groups,
            "minimise": options.minimise,
            "profile_run": _name(options.learnt_from),
            "limit": options.limit,
        }
        return place(
            graph,
            _profile(options.chip),
            strategy=options.placement,
            groups=options.groups,
            seen=seen,
            minimise=options.minimise or "core-steps",
        )

    def bundle(self, network: Graph, quantised: Graph | None, mapping: Mapping | None) -> Bundle:
        """Assemble the bundle from the graphs, the mapping and the origin."""
        options = {name: value for name, value in self.used.items() if value is not None}
        if isinstance(self.model, Weights):
            origin = self.model.provenance(tuple(self.passes), options)
        elif isinstance(self.model, str | Path):
            origin = api.provenance(self.model, passes=self.passes, **options)
        else:
            origin = Provenance(source="", options=options, passes=tuple(self.passes))
        return Bundle(network, origin, {}, quantised, mapping)

    def _apply(self, graph: Graph, *passes: Pass) -> Graph:
        for each in map(_recorded, passes):
            if each not in self.passes:  # late decisions apply to both networks; record them once
                self.passes.append(each)
        return run_passes(graph, passes)

    def _images(self, given: Images | None, use: str, count: int) -> LabelledImages | None:
        if given is None:
            return None
        images = given if isinstance(given, LabelledImages) else load_data(given, "train")
        if bias := bias_of_first(images, count):
            self.note(f"{use}: {bias}")
        return images


def _profile(chip: Profile | str) -> Profile:
    return load_profile(chip) if isinstance(chip, str) else chip


def _name(given: Images | Profile | None) -> str | None:
    """Return the name of an argument, to record it."""
    if given is None or isinstance(given, str):
        return given
    return given.source if isinstance(given, LabelledImages) else given.name


def _recorded(rewrite: Pass) -> dict[str, Any]:
    """Return the name of a pass and those of its arguments that are strings or numbers."""
    arguments = {each.name: getattr(rewrite, each.name) for each in fields(rewrite)}  # type: ignore[arg-type]
    plain = {name: value for name, value in arguments.items() if isinstance(value, str | int | float)}
    return {"pass": type(rewrite).__name__, **plain}
