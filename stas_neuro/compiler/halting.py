"""Choice of the parameters of halting that is added without training, and what it costs and saves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stas_neuro import api
from stas_neuro.data import LabelledImages
from stas_neuro.errors import InputError
from stas_neuro.ir import POLICIES, Graph, HaltMode
from stas_neuro.labels import match_classes
from stas_neuro.passes import AddHalting
from stas_neuro.reference import run_reference

HALTING_IMAGES = 512
"""Number of images that parameters are chosen and measured on, half of them for each."""
MAX_DROP = 0.01
"""Default of the largest loss of accuracy."""
EPSILON = 0.01
"""Scores only have to reach a fixed sum: alpha and beta decide when they do."""
_ALPHAS = (1.0, 0.5, -0.5, -1.0)
_BETAS = tuple(np.linspace(-10.0, 8.0, 37).tolist())
_MARGINS = 64
"""Number of margins, quantiles of the leads of the network without halting."""
_WEAKEST = (32.0, 16.0, 8.0, 4.0, 2.0)
"""Margins in units of the largest of these leads: after few steps, a mean of logits can lead by more."""


@dataclass(frozen=True)
class HaltingEffect:
    """What halting changes on some images.

    Parameters
    ----------
    images : int
    accuracy_without, accuracy : float or None
        Share of correct predictions without and with halting; None without labels.
    agreement : float
        Share of predictions that are those of the network without halting.
    visits : float
        Share of the visits that are made.
    """

    images: int
    accuracy_without: float | None
    accuracy: float | None
    agreement: float
    visits: float

    @property
    def drop(self) -> float:
        """Loss of accuracy, or of agreement without labels."""
        if self.accuracy is None or self.accuracy_without is None:
            return 1 - self.agreement
        return self.accuracy_without - self.accuracy


@dataclass(frozen=True)
class HaltingChoice:
    """Chosen halting: the pass that adds it, the limit, and the effect on two halves of the images.

    `chosen_on` has the images by which it was chosen, so its effect there is too good; `reported_on` has the
    others.
    """

    halting: AddHalting
    max_drop: float
    chosen_on: HaltingEffect
    reported_on: HaltingEffect

    @property
    def parameters(self) -> dict[str, float | bool]:
        """The parameters that the policy uses, by name."""
        by_image = POLICIES[self.halting.mode].by_image
        names = ("margin", "summed") if by_image else ("alpha", "beta", "epsilon")
        return {name: getattr(self.halting, name) for name in names}

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        effects = {"chosen_on": self.chosen_on, "reported_on": self.reported_on}
        return {
            "mode": self.halting.mode,
            "parameters": self.parameters,
            "max_drop": self.max_drop,
            "measure": "agreement" if self.chosen_on.accuracy is None else "accuracy",
            **{name: asdict(effect) | {"drop": effect.drop} for name, effect in effects.items()},
        }

    def sentence(self) -> str:
        """Say what was chosen, and its effect on the images that did not decide."""
        chosen, seen = self.chosen_on, self.reported_on
        numbers = {name: value for name, value in self.parameters.items() if name != "summed"}
        given = ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        if "summed" in self.parameters:
            given += f" of the {'sum' if self.halting.summed else 'mean'} of logits"
        effect = f"agreement with the network without halting {seen.agreement:.1%}"
        if seen.accuracy is not None:
            effect = f"accuracy {seen.accuracy:.1%} instead of {seen.accuracy_without:.1%}"
        return (
            f"halting {self.halting.mode}: {given}, chosen on {chosen.images} images for a loss of at most "
            f"{self.max_drop:.2%} ({chosen.drop:.2%} there); on {seen.images} other images {effect}, "
            f"{seen.visits:.1%} of visits"
        )


Measure = Callable[[AddHalting], HaltingEffect]


def choose_halting(
    graph: Graph,
    mode: HaltMode,
    images: LabelledImages | NDArray[Any],
    *,
    max_drop: float = MAX_DROP,
    max_visits: int | None = None,
    token_groups: int | None = None,
    limit: int = HALTING_IMAGES,
    progress: api.Progress | None = None,
) -> HaltingChoice:
    """Choose alpha and beta, or a margin, with which a network without halting makes the fewest visits.

    Margins are tried of the mean of the logits over the steps so far, and of their sum.

    Parameters
    ----------
    graph : Graph
        A traced or folded graph without halting.
    mode : HaltMode
        Halting policy.
    images : LabelledImages or array
        As for :func:`stas_neuro.run`; the first `limit` are used. Every second one decides, and the others
        measure the effect.
    max_drop : float
        Largest loss of accuracy on the images that decide; of agreement with the network without halting if
        there are no labels.
    max_visits : int, optional
        Number of visits after which a token halts in any case.
    token_groups : int, optional
        Number of groups of tokens that halt together.
    progress : callable, optional
        Called with the number of images that were run, and of those that the search runs at most.

    Raises
    ------
    InputError
        If there are fewer than 2 images or these do not fit, halting cannot be added (`AddHalting`), or no
        tried parameters keep to `max_drop`.
    """
    if not 0 <= max_drop < 1:
        raise InputError(f"max-drop is {max_drop}", "use a share of at least 0 and below 1, such as 0.01")
    plainest = AddHalting(mode=mode, max_visits=max_visits, token_groups=token_groups)
    plainest(graph)  # refuses a graph before any image is run
    data = images if isinstance(images, LabelledImages) else LabelledImages(images, None)
    pixels = api.preprocess(graph, data, limit).astype(np.float32)
    if len(pixels) < 2:
        raise InputError("halting is chosen with 1 image", "give at least 2: half of them measure the effect")
    labels = match_classes(data, graph.classes).labels
    first, second = slice(0, None, 2), slice(1, None, 2)
    ran = _Ran(progress, len(pixels) + _most_runs(mode) * len(pixels[first]) + len(pixels[second]))
    plain = run_reference(graph, pixels, dtype=np.float32, count=False, progress=ran.part)

    def measure_on(half: slice) -> Measure:
        known = None if labels is None else labels[: len(pixels)][half]
        before = plain.predictions[half]

        def measure(halting: AddHalting) -> HaltingEffect:
            trace = run_reference(
                halting(graph), pixels[half], dtype=np.float32, count=False, progress=ran.part
            )
            return HaltingEffect(
                images=trace.images,
                accuracy_without=None if known is None else float((before == known).mean()),
                accuracy=None if known is None else float((trace.predictions == known).mean()),
                agreement=float((trace.predictions == before).mean()),
                visits=float(trace.visits.mean()),
            )

        return measure

    best: tuple[AddHalting, HaltingEffect] | None = None
    for series in _series(plainest, plain.logits[first], graph.time_steps):
        found = _strongest(series, measure_on(first), max_drop)
        if found is not None and (best is None or found[1].visits < best[1].visits):
            best = found
    if best is None:
        raise InputError(
            f"no parameters of {mode} halting keep the loss within {max_drop:.2%}", "allow more (--max-drop)"
        )
    effect = measure_on(second)(best[0])
    ran.end()
    return HaltingChoice(best[0], max_drop, best[1], effect)


def _most_runs(mode: HaltMode) -> int:
    """Count the runs that the search makes at most: a bisection of n takes n.bit_length()."""
    if POLICIES[mode].by_image:
        return 2 * (len(_WEAKEST) + _MARGINS + 1).bit_length()
    return len(_ALPHAS) * len(_BETAS).bit_length()


class _Ran:
    """Counts the images of several runs, and reports them as those of one."""

    def __init__(self, report: api.Progress | None, total: int) -> None:
        self.report, self.total = report, total
        self.before = self.now = 0

    def part(self, done: int, images: int) -> None:
        """Take the progress of one run."""
        self.now = self.before + done
        if done == images:
            self.before = self.now
        if self.report is not None:
            self.report(self.now, self.total)

    def end(self) -> None:
        """Report the end, which a search may reach with fewer images than it could have needed."""
        if self.report is not None:
            self.report(self.total, self.total)


def _series(plainest: AddHalting, logits: NDArray[Any], steps: int) -> list[list[AddHalting]]:
    """List parameters to try, in series from the weakest halting to the strongest.

    `logits` (n, classes) are the means over all steps.
    """
    if POLICIES[plainest.mode].by_image:
        ordered = np.sort(logits, axis=1)
        leads = ordered[:, -1] - ordered[:, -2]
        largest = float(leads.max())
        weakest = [times * largest for times in _WEAKEST]
        margins = [*weakest, *np.quantile(leads, np.linspace(1, 0, _MARGINS)).tolist(), 0.0]
        return [
            [replace(plainest, margin=margin * (steps if summed else 1), summed=summed) for margin in margins]
            for summed in (False, True)
        ]
    with_beta = replace(plainest, epsilon=EPSILON)
    return [[replace(with_beta, alpha=alpha, beta=beta) for beta in _BETAS] for alpha in _ALPHAS]


def _strongest(
    series: Sequence[AddHalting], measure: Measure, max_drop: float
) -> tuple[AddHalting, HaltingEffect] | None:
    """Find by bisection the strongest halting of a series that keeps to the loss, and its effect."""
    best = None
    low, high = 0, len(series)
    while low < high:
        middle = (low + high) // 2
        effect = measure(series[middle])
        if effect.drop <= max_drop:
            best, low = (series[middle], effect), middle + 1
        else:
            high = middle
    return best
