"""Accuracy and activity of a network, each measured once for all deployments that share them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro import api
from stas_neuro.activity import Activity
from stas_neuro.chips import Profile
from stas_neuro.compiler import Compilation, CompileOptions, Compiler, Opened
from stas_neuro.compiler.shared import key_of
from stas_neuro.data import LabelledImages, PreparedImages, load_data
from stas_neuro.errors import InputError
from stas_neuro.ir import Graph, Phase
from stas_neuro.labels import match_classes
from stas_neuro.optimiser.space import FULL, Placing, Variant
from stas_neuro.reference import Counting, count_on_cores, run_reference

FULL_BITS = 8
"""Bits of the network without halting that others are tested against."""
SAMPLE = 16
"""Number of images whose activity on cores is priced."""
CALIBRATED = 128
"""Number of images that scales of integers are chosen with, by default."""
PROFILED = 64
"""Number of images from which placement learns traffic, and which tokens halt together."""


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled images in two parts: deployments are chosen with one, and reported on the other."""

    chosen_on: LabelledImages
    reported_on: LabelledImages

    @staticmethod
    def halves(data: LabelledImages) -> Images:
        """Split images into those with even and with odd numbers.

        Raises InputError without labels, or with fewer than 2 x `SAMPLE` images.
        """
        if data.labels is None:
            raise InputError(f"{data.source} has no labels", "give labelled images: accuracy is measured")
        if len(data) < 2 * SAMPLE:
            what = f"{data.source} has {len(data)} images"
            raise InputError(what, f"give at least {2 * SAMPLE}: deployments are chosen on a half of them")
        return Images(data.select(slice(0, None, 2)), data.select(slice(1, None, 2)))


@dataclass(frozen=True, eq=False)
class Measured:
    """A network that was made and run.

    Parameters
    ----------
    variant : Variant
    graph : Graph
        Its integer program.
    accuracy : float
        Share of the images of the first part that are classified correctly.
    visits : float
        Share of the visits of all model steps, blocks and tokens that are made; of a network with fewer steps
        relative to its own.
    sample : int (SAMPLE,)
        Images, of the first part, that stand for all: at even ranks by the model steps with a visit, and by
        their synaptic operations where these are equal.
    """

    variant: Variant
    graph: Graph
    accuracy: float
    visits: float
    sample: NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Bench:
    """Makes networks of one model, and runs them.

    Parameters
    ----------
    label : str
        Label of the model; empty for the model that is optimised.
    opened : Opened
    images : Images
    calibrate : LabelledImages or str
        Images to choose the scales of integers with.
    """

    label: str
    opened: Opened
    images: Images
    calibrate: LabelledImages | str
    _cut: dict[tuple[object, int], LabelledImages] = field(default_factory=dict, repr=False)
    """Images of frames, cut to a number of steps: compilations know them by identity."""

    def compiler(self) -> Compiler:
        """Return a compiler: what the networks of one `Task` share is done once, and then forgotten."""
        return Compiler(self.opened)

    def compilation(
        self, compiler: Compiler, variant: Variant, chip: Profile, placing: Placing | None = None
    ) -> Compilation:
        """Return the compilation that makes a network for a chip, and places it if asked to."""
        steps = variant.options.get("steps")
        words = {"profile": chip, "calibrate": self._frames(self.calibrate, steps), **variant.options}
        if placing is not None:
            words |= {"placement": placing.strategy, "cores": placing.cores, "groups": placing.groups}
            words |= {"profile_run": self._frames(self.images.chosen_on, steps), "limit": PROFILED}
        return Compilation(compiler, CompileOptions(**words))

    def _frames(self, given: LabelledImages | str, steps: int | None) -> LabelledImages | str:
        """Return images with as many frames as a network with fewer steps takes."""
        if steps is None:
            return given
        key = key_of(given), steps
        if key not in self._cut:
            images = load_data(given, "train")
            self._cut[key] = images.first_frames(steps)
        return self._cut[key]

    def integers(self, compiler: Compiler, variant: Variant, chip: Profile) -> Graph:
        """Make the integer program of a network; raises what compiling raises, where it cannot be made."""
        graph = self.compilation(compiler, variant, chip).quantise()
        assert graph is not None  # each variant has bits
        return graph

    def exits(self, chip: Profile, quantiles: tuple[float, ...]) -> list[dict[str, Any]]:
        """Return options of exits: quantiles of the lead of the largest logit, at the end of all model steps.

        A network of frames also gets margins of the sum of the logits: what one frame says fades in the mean.
        """
        graph = self.compilation(self.compiler(), self.full(), chip).fold()
        pixels = _pixels(graph, self.images.chosen_on)
        logits = np.sort(run_reference(graph, pixels, dtype=np.float32, count=False).logits, axis=1)
        leads = logits[:, -1] - logits[:, -2]
        margins = np.quantile(leads, quantiles).tolist()
        found: list[dict[str, Any]] = [{"margin": margin} for margin in margins]
        if graph.input.phase != Phase.ONCE:
            found += [{"margin": margin * graph.time_steps, "summed": True} for margin in margins]
        return found

    def full(self) -> Variant:
        """Return the network without halting, with all model steps."""
        off = {} if isinstance(self.opened.network, Graph) else {"accumulate": "off"}
        return Variant(model=self.label, family=FULL, options={**off, "bits": FULL_BITS})

    def measure(self, variant: Variant, graph: Graph) -> Measured:
        """Classify the images of the first part with the integer program of a network."""
        trace = api.run(graph, first_frames(graph, self.images.chosen_on))
        correct = trace.predictions == labels_of(graph, self.images.chosen_on)
        work = trace.activity.per_image("synops")
        at_work = trace.visits.any(axis=(2, 3)).sum(axis=1)
        ranks = np.linspace(0, len(work) - 1, SAMPLE).round().astype(np.intp)
        return Measured(
            variant=variant,
            graph=graph,
            accuracy=float(correct.mean()),
            visits=float(trace.visits.mean()) if trace.visits.size else 1.0,
            sample=np.lexsort((work, at_work))[ranks],
        )

    def activities(self, measured: Measured, countings: Sequence[Counting]) -> list[Activity]:
        """Count the events of the sample in several ways."""
        images = self.images.chosen_on.select(measured.sample)
        return count_on_cores(measured.graph, _pixels(measured.graph, images)[:], countings)


def _pixels(graph: Graph, images: LabelledImages) -> PreparedImages:
    return api.prepare(graph, first_frames(graph, images))


def first_frames(graph: Graph, images: LabelledImages) -> LabelledImages:
    """Return images with the frames that a network with fewer steps takes."""
    frames, *_ = shape = graph.image_shape
    return images if len(shape) == 3 else images.first_frames(frames)


def labels_of(graph: Graph, images: LabelledImages) -> NDArray[np.int64]:
    """Return the labels of images as numbers of the network's classes."""
    labels = match_classes(images, graph.classes).labels
    assert labels is not None  # `Images` has labels
    return labels
