"""The runs without halting that a halting network is compared with, made to match its own."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro import api
from stas_neuro.activity import Activity, hash_images
from stas_neuro.bundle import Bundle
from stas_neuro.choices import HALT_MODES, HaltMode
from stas_neuro.compiler import (
    Compilation,
    CompileOptions,
    Compiler,
    Opened,
    is_checkpoint,
    recorded_compilation,
)
from stas_neuro.compiler.halting import MAX_DROP
from stas_neuro.compiler.opened import open_trained
from stas_neuro.data import LabelledImages, load_data
from stas_neuro.errors import InputError
from stas_neuro.ir import Graph
from stas_neuro.labels import match_classes
from stas_neuro.optimiser import Space
from stas_neuro.optimiser.measure import first_frames
from stas_neuro.optimiser.space import FULL, variants
from stas_neuro.trace import Trace

STAGE1 = "stage1"
"""Directory of a checkpoint in which training writes that of its first stage, which does not halt."""
HELD_BACK = 256
"""Largest number of images that the number of steps is chosen on."""
BUILT_IN = ("same weights", "stage 1", "one step", "all tokens computed")
"""Labels of the baselines but for those with fewer steps."""
_STATIC = "static"
"""How the label of a baseline with fewer steps begins."""
_OF_HALTING = frozenset(
    ("accumulate", "epsilon", "halting", "max_drop", "alpha", "beta", "margin", "schedule", "late")
)
"""Options of a compilation that only networks with halting have."""
_OF_IMAGES = ("calibrate", "profile_run")
"""Options of a compilation that name images."""
Report = Callable[[str, int, int], None]
"""Called with what is run, and the number of finished images and of all images."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Baseline:
    """A network without halting, and its run on the images of the halting run.

    Parameters
    ----------
    label : str
        Short name, such as `same weights`.
    steps : int
        Its model steps.
    bundle : Bundle
    trace : Trace
    gating : str
        Gating mode of the run; `none` where the halting of a network cannot be taken away.
    held_back : float or None
        Share of the held-back images that it classifies correctly (without labels, as the network without
        halting does); None where the number of steps was not chosen.
    wall_time_s : float
        Duration of the run on this computer.
    """

    label: str
    steps: int
    bundle: Bundle
    trace: Trace
    gating: str
    held_back: float | None
    wall_time_s: float


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a network is run; fields as parameters of `stas_neuro.run`."""

    backend: str = "auto"
    dtype: str = "float64"
    runtime: str = "in-process"
    granularity: str = "auto"
    arithmetic: str = "float"
    gating: str = "silent"
    cores: bool = True
    """Whether activity is counted by core, if the bundle was placed."""
    per_image: bool = False


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """Baselines of a network, and why others do not exist, by label."""

    made: tuple[Baseline, ...]
    missing: Mapping[str, str]


def make_baselines(
    bundle: Bundle,
    images: LabelledImages,
    *,
    held_back: LabelledImages | None = None,
    max_drop: float = MAX_DROP,
    rivals: Mapping[str, Any] | None = None,
    options: RunOptions | None = None,
    report: Report | None = None,
) -> Baselines:
    """Make and run the networks without halting that a halting network is compared with.

    Each is compiled from what the bundle was compiled from, with the same options (bits, scales, placement),
    and run on the same images in the same way, so that `compare` accepts its activity:

    - `same weights`: the trained weights, with all model steps and no halting;
    - `stage 1`: the checkpoint of the first stage of training, where it exists;
    - `static`: the fewest model steps of one of these that lose at most `max_drop` on `held_back`, relative
      to the halting network;
    - `one step`: the same weights with one model step, where there are more;
    - the rivals.

    Where the halting of a network is part of its graph, the only baseline is `all tokens computed`: the same
    network with gating `none`, which computes halted tokens and discards them.

    Parameters
    ----------
    bundle : Bundle
        The halting network; it must record its checkpoint, bundle or file of released weights.
    images : LabelledImages
        The images that it was run on.
    held_back : LabelledImages, optional
        Other images, to choose the number of steps with.
    max_drop : float
        Largest loss of accuracy as a share; without labels, of agreement with `same weights`.
    rivals : mapping of label to model, optional
        Models that were trained without halting, as for `compile`, such as one trained for one time step.
    options : RunOptions, optional
        How the halting network was run.
    report : callable, optional
        Called with what is run, and the number of finished images and of all images.

    Raises
    ------
    InputError
        If the network does not halt, records no origin, or a baseline cannot be compiled or run; or as for
        `check_rivals`.
    """
    how, given = RunOptions() if options is None else options, dict(rivals or {})
    check_rivals(given)
    if bundle.graph.halting == "off":
        raise InputError("the network does not halt", "give one that does: its baselines do not")
    runner = _Runner(images, how, report)
    model, recorded = recorded_compilation(bundle) if bundle.provenance.training is None else (bundle, {})
    recorded = {name: value for name, value in recorded.items() if name not in _OF_HALTING}
    bits = bundle.provenance.options.get("bits")
    sources = {"same weights": _Source(_open(model), recorded, bits)}
    if sources["same weights"].halts:
        computed = runner.run("all tokens computed", bundle, gating="none")
        missing = dict.fromkeys(("same weights", _STATIC), "its halting is part of the graph")
        made = [computed]
    else:
        missing = {}
        stage1 = _stage1_of(model)
        if stage1 is None:
            missing["stage 1"] = f"{_name(model)} has no {STAGE1}"
        else:
            sources["stage 1"] = _Source(_open(stage1), recorded, bits)
        made = [runner.run(label, source.bundle()) for label, source in sources.items()]
        made += runner.fewer(bundle, sources, held_back, max_drop, missing)
    for label, rival in given.items():
        source = _Source(_open(rival), recorded, bits)
        if source.halts:
            raise InputError(f"{label} halts", "give a model that was trained without halting")
        made.append(runner.run(label, source.bundle()))
    return Baselines(made=tuple(made), missing=missing)


def check_rivals(labels: Iterable[str], *, taken: Iterable[str] = ()) -> None:
    """Raise InputError where the labels of rivals, or their file names, are not their own.

    `taken` are labels of other runs, besides those of the baselines.
    """
    known = {file_name(label).casefold(): label for label in (*BUILT_IN, *taken)}
    for label in labels:
        name = file_name(label).casefold()
        other = f"{_STATIC}, ..." if name.split("-")[0] == _STATIC else known.get(name)
        if other is not None:
            what = f"the rival '{label}' has the label of '{other}', or the same name as a file ({name})"
            raise InputError(what, "give it another label, of other letters or digits")
        known[name] = label


def file_name(label: str) -> str:
    """Return a label as the name of a file: only letters, digits and dashes."""
    return re.sub(r"[^0-9A-Za-z]+", "-", label).strip("-") or "baseline"


def _open(model: Any) -> Opened:
    return Opened(network=model.graph) if isinstance(model, Bundle) else open_trained(model)


def _name(model: Any) -> str:
    return model if isinstance(model, str) else "the model"


def _stage1_of(model: Any) -> str | None:
    path = Path(model) / STAGE1 if isinstance(model, str) else None
    return str(path) if path is not None and is_checkpoint(path) else None


class _Source:
    """A model whose halting is taken away: its networks with all and with fewer model steps.

    Parameters
    ----------
    opened : Opened
    recorded : mapping
        Options that all networks are compiled with.
    bits : int or None
        Bits of weights of a model that was fine-tuned to them, for models that were not.
    """

    def __init__(self, opened: Opened, recorded: Mapping[str, Any], bits: Any) -> None:
        self.compiler = Compiler(opened)
        network = opened.network
        self.halts = isinstance(network, Graph) and network.halting != "off"
        trained: HaltMode | None = None
        if network is not None and not isinstance(network, Graph):
            trained = next((mode for mode in HALT_MODES if mode == network.config.accumulate), None)
        self.recorded = dict(recorded) if opened.tuned is not None else {"bits": bits} | dict(recorded)
        self._trained = trained

    def options(self, steps: int | None = None) -> dict[str, Any]:
        """Return the options of the network with so many model steps; all steps of the halting one if None.

        They are those of the optimiser's networks without halting.
        """
        most = self.recorded.get("steps") or self.steps
        listed = variants(
            Space(policies=(), fewer=most), model="", steps=most, trained=self._trained, fixed=False, exits=()
        )
        for variant in listed:
            if variant.options.get("steps") == steps or (steps == most and variant.family == FULL):
                return self.recorded | {k: v for k, v in variant.options.items() if k != "bits"}
        raise InputError(f"{steps} model steps of a network with {most}", f"use 1 to {most}")

    @property
    def steps(self) -> int:
        """Model steps that it was trained with."""
        network = self.compiler.opened.network
        assert network is not None  # an integer program alone is refused by `open_trained`
        return network.time_steps if isinstance(network, Graph) else network.config.time_steps

    def graph(self, steps: int) -> Graph:
        """Return the folded network with so many model steps."""
        names = ("accumulate", "readout", "steps")
        words = {name: value for name, value in self.options(steps).items() if name in names}
        return Compilation(self.compiler, CompileOptions(**words)).fold()

    def bundle(self, steps: int | None = None, *, placed: bool = True) -> Bundle:
        """Compile the network with so many model steps, placed as the halting one."""
        words = self.options(steps)
        if steps is not None:
            words |= self._cut(words, steps)
        if not placed:
            of_placing = ("placement", "groups", "minimise", "cores", "mode", "contexts", *_OF_IMAGES[1:])
            words = {name: value for name, value in words.items() if name not in (*of_placing, "limit")}
            if words.get("bits") is None:
                words.pop("profile", None)
        return Compilation(self.compiler, CompileOptions(**words)).bundle()

    def _cut(self, words: Mapping[str, Any], steps: int) -> dict[str, Any]:
        """Return the options that name images, of which a network of frames takes only the first."""
        graph = self.graph(steps)
        if len(graph.image_shape) == 3:
            return {}
        given = {name: words[name] for name in _OF_IMAGES if name in words}
        return {name: first_frames(graph, load_data(value, "train")) for name, value in given.items()}


@dataclass
class _Runner:
    images: LabelledImages
    how: RunOptions
    report: Report | None

    def run(
        self, label: str, bundle: Bundle, *, gating: str | None = None, held_back: float | None = None
    ) -> Baseline:
        """Run a network as the halting one was run."""
        chosen = gating or ("silent" if self.how.gating == "none" else self.how.gating)
        cut = first_frames(bundle.graph, self.images)
        begun = time.perf_counter()
        trace = api.run(
            bundle,
            cut,
            backend=self.how.backend,
            dtype=self.how.dtype,
            runtime=self.how.runtime,
            granularity=self.how.granularity,
            arithmetic=self.how.arithmetic,
            mapping="bundle" if self.how.cores else None,
            gating=chosen,
            per_image=self.how.per_image,
            progress=self._progress(label),
        )
        if cut is not self.images:
            trace = replace(trace, counted=_of_recordings(trace.activity, self.images))
        return Baseline(
            label=label,
            steps=bundle.graph.time_steps,
            bundle=bundle,
            trace=trace,
            gating=chosen,
            held_back=held_back,
            wall_time_s=time.perf_counter() - begun,
        )

    def fewer(
        self,
        halting: Bundle,
        sources: Mapping[str, _Source],
        held_back: LabelledImages | None,
        max_drop: float,
        missing: dict[str, str],
    ) -> Iterator[Baseline]:
        """Run networks with fewer model steps: the chosen number, and one; or note why there is none."""
        same = sources["same weights"]
        most = halting.graph.time_steps
        if most == 1:
            missing |= dict.fromkeys(("static", "one step"), "the network has one model step")
            return
        one: tuple[str, int] | None = ("same weights", 1)
        if held_back is None:
            missing["static"] = (
                "no images are left to choose the number of steps with; name some as held-back"
            )
        elif (found := self._choose(halting, sources, held_back, max_drop)) is None:
            missing["static"] = (
                f"on {len(held_back)} held-back images each network with fewer steps loses more than "
                f"{max_drop:.2%}"
            )
        else:
            label, steps, score = found
            one = None if (label, steps) == one else one
            words = f"{_STATIC}, {steps} step{'s' if steps > 1 else ''}" + (
                "" if label == "same weights" else f" of {label}"
            )
            yield self.run(words, sources[label].bundle(steps), held_back=score)
        if one is not None:
            yield self.run("one step", same.bundle(1))

    def _choose(
        self,
        halting: Bundle,
        sources: Mapping[str, _Source],
        images: LabelledImages,
        max_drop: float,
    ) -> tuple[str, int, float] | None:
        """Return the network with the fewest steps that is accurate enough, its steps, and its accuracy."""
        full = sources["same weights"].bundle(placed=False)
        reference = self._predict("same weights", full, images)
        labels = match_classes(images, halting.graph.classes).labels
        truth = reference if labels is None else labels

        def score(predictions: NDArray[np.int64]) -> float:
            return float((predictions == truth).mean())

        least = score(self._predict("the halting network", halting, images)) - max_drop
        for steps in range(1, halting.graph.time_steps):
            scores: dict[str, float] = {}
            for label, source in sources.items():
                what = f"{steps} of {halting.graph.time_steps} steps of {label}"
                scores[label] = score(self._predict(what, source.bundle(steps, placed=False), images))
            best = max(scores, key=lambda label: scores[label])
            if scores[best] >= least:
                return best, steps, scores[best]
        return None

    def _predict(self, what: str, bundle: Bundle, images: LabelledImages) -> NDArray[np.int64]:
        graph = bundle.of(self.how.arithmetic)
        report = self._progress(f"{what}, to choose the number of steps")
        cut = first_frames(graph, images)
        return api.run(
            graph, cut, dtype=self.how.dtype, arithmetic=self.how.arithmetic, progress=report
        ).predictions

    def _progress(self, what: str) -> api.Progress | None:
        report = self.report
        return None if report is None else lambda done, total: report(what, done, total)


def _of_recordings(activity: Activity, images: LabelledImages) -> Activity:
    """Say that a run on the first frames of recordings ran on the recordings, of which it read these."""
    return replace(activity, origin=replace(activity.origin, images=hash_images(images.images)))


def held_back_images(spec: str, used: int, *, most: int = HELD_BACK) -> LabelledImages | None:
    """Return images that a run on the first `used` images of a data set did not use; None if there are none.

    They are the next ones of the same data.
    """
    data = load_data(spec)
    rest = data.select(slice(used, used + most))
    return rest if len(rest) else None
