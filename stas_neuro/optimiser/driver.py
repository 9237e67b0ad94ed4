"""The search as one call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stas_neuro.chips import Profile, load_profile
from stas_neuro.choices import DEFAULT_PROFILE, GOALS, MODES, Goal, Mode
from stas_neuro.compiler import Compiler
from stas_neuro.compiler.halting import MAX_DROP
from stas_neuro.compiler.opened import open_trained
from stas_neuro.data import LabelledImages, load_data
from stas_neuro.errors import InputError, unknown
from stas_neuro.optimiser.confirm import Confirmer
from stas_neuro.optimiser.frontier import pareto, spread
from stas_neuro.optimiser.measure import CALIBRATED, Bench, Images
from stas_neuro.optimiser.result import BEST, FRONTIER, Candidate, Optimised, Point
from stas_neuro.optimiser.search import Report, Search
from stas_neuro.optimiser.space import FULL, STATIC, Space

POINTS = 16
"""Largest number of points of the frontier that are compiled and run."""


def optimise(  # noqa: PLR0913
    model: Any,
    data: LabelledImages | str,
    *,
    profile: Profile | str = DEFAULT_PROFILE,
    objective: Goal = "energy",
    mode: Mode = "single",
    min_accuracy: float | None = None,
    max_drop: float | None = None,
    calibrate: LabelledImages | str | None = None,
    rivals: Mapping[str, Any] | None = None,
    space: Space | None = None,
    points: int = POINTS,
    folder: Path | None = None,
    jobs: int = 1,
    report: Report | None = None,
) -> Optimised:
    """Search the deployments of a model on a chip for those that no other beats.

    Networks (halting policies and their parameters, fewer model steps, bits), placements and deployments are
    combined. Each network is run once on a half of the images; its deployments are priced from the counts of
    a sample of these. The frontier of accuracy, energy and latency is then compiled, run on the other half,
    and priced.

    Parameters
    ----------
    model : StasModel, Graph, str or Path
        As for `compile`.
    data : LabelledImages or str
        Labelled images, or a source as for ``--data``; at least 16.
    profile : Profile or str
        The chip; it must have cores, times and static power.
    objective : "energy", "latency", "edp" or "throughput"
        What `best` is chosen by.
    mode : "single" or "stream"
        Whether an image is priced alone, or in a stream.
    min_accuracy, max_drop : float, optional
        Least accuracy of `best`, or its largest loss relative to the network without halting, as shares.
        Default: a loss of 0.01.
    calibrate : LabelledImages or str, optional
        Images to choose the scales of integers with. Default: 128 of those that deployments are chosen on.
    rivals : mapping, optional
        Other models by label, such as that of stage 1, or of one time step: with all and with fewer model
        steps, and with image exit.
    space : Space, optional
        What is combined.
    points : int
        Largest number of points of the frontier that are compiled and run.
    folder : Path, optional
        Where to write a bundle for each point.
    jobs : int
        Number of processes that price networks. With more than 1, a script needs the usual guard
        ``if __name__ == "__main__"``.
    report : callable, optional
        Called with what is done, and the number of finished and of all networks or points.

    Raises
    ------
    InputError
        When data have no labels or too few images, options conflict, the network cannot be compiled, or no
        deployment can be priced on the chip.
    """
    for name, value, known in (("objective", objective, tuple(GOALS)), ("mode", mode, tuple(MODES))):
        if value not in known:
            raise unknown(name, value, known)
    if min_accuracy is not None and max_drop is not None:
        raise InputError("min-accuracy and max-drop both limit the accuracy", "leave out one of the two")
    started = time.monotonic()
    chip = load_profile(profile) if isinstance(profile, str) else profile
    space = space or Space()
    report = report or (lambda what, done, total: None)
    images = Images.halves(load_data(data) if isinstance(data, str) else data)
    first = images.chosen_on.select(slice(0, CALIBRATED))
    options = {"profile": chip, "calibrate": first if calibrate is None else calibrate}

    def bench(label: str, given: Any) -> Bench:
        return Bench(label, Compiler(open_trained(given)), images, options)

    main = bench("", model)
    others = [bench(label, given) for label, given in (rivals or {}).items()]
    explored = Search([main, *others], chip, mode, space).explore(report, jobs)
    if not explored.found:
        reasons = "; ".join(what for what, _ in explored.refused.most_common(3))
        raise InputError(f"no deployment on {chip.name} can be priced: {reasons}", "use another profile")
    found = explored.found
    full = max((each.accuracy for each in found if _is_full(each)), default=0.0)
    drop = MAX_DROP if max_drop is None else max_drop
    least = full - drop if min_accuracy is None else min_accuracy
    frontier = frontier_of(found)
    shown = [frontier[index] for index in spread(len(frontier), points)]
    confirmer = Confirmer({each.label: each for each in (main, *others)}, chip, folder)
    chosen = best_of(found, objective, least)
    wanted = [(FRONTIER, each) for each in shown] + [*rivals_of(found, objective, least).items()]
    wanted += [] if chosen is None else [(BEST, chosen)]
    made: list[Point] = []
    roles = _roles(wanted)
    for number, (candidate, names) in enumerate(roles):
        report("points", number, len(roles))
        made.append(confirmer.point(candidate, names))
    report("points", len(roles), len(roles))
    return Optimised(
        profile=chip.name,
        mode=mode,
        objective=objective,
        least_accuracy=least,
        images=(len(images.chosen_on), len(images.reported_on)),
        networks=explored.networks,
        deployments=len(found),
        refused=dict(explored.refused),
        seconds=time.monotonic() - started,
        points=tuple(made),
        left_out=len(frontier) - len(shown),
    )


def _roles(wanted: Iterable[tuple[str, Candidate]]) -> list[tuple[Candidate, tuple[str, ...]]]:
    """List each candidate once, with all of its roles."""
    found: list[tuple[Candidate, list[str]]] = []
    for role, candidate in wanted:
        same = next((roles for known, roles in found if known is candidate), None)
        if same is None:
            found.append((candidate, [role]))
        else:
            same.append(role)
    return [(candidate, tuple(roles)) for candidate, roles in found]


def frontier_of(found: list[Candidate]) -> list[Candidate]:
    """Return the candidates that no other beats in accuracy, energy and latency, in the order of energy."""
    prices = [(each.price.energy_j.value, each.price.latency_s.value, -each.accuracy) for each in found]
    costs = np.array(prices)
    return [found[index] for index in pareto(costs)]


def best_of(found: Iterable[Candidate], objective: Goal, least: float) -> Candidate | None:
    """Return the candidate that the objective prefers, among those that are accurate enough."""
    allowed = [each for each in found if each.accuracy >= least]
    return min(allowed, key=lambda each: each.price.cost(objective), default=None)


def _is_full(candidate: Candidate) -> bool:
    return candidate.variant.family == FULL and not candidate.variant.model


def rivals_of(found: list[Candidate], objective: Goal, least: float) -> dict[str, Candidate]:
    """Return the best candidate of each way to do without token halting, by name.

    These are the full network, fewer steps, image exit, and each rival model; accurate enough if one is.
    """
    kinds: dict[str, Callable[[Candidate], bool]] = {
        "full network": _is_full,
        "one step": lambda each: each.variant.options.get("steps") == 1 and not each.variant.model,
        "fewer steps": lambda each: each.variant.family == STATIC and not each.variant.model,
        "image exit": lambda each: each.variant.family == "image" and not each.variant.model,
    }
    for label in dict.fromkeys(each.variant.model for each in found if each.variant.model):
        kinds[label] = lambda each, label=label: each.variant.model == label  # type: ignore[misc]
    chosen: dict[str, Candidate] = {}
    for name, belongs in kinds.items():
        own = [each for each in found if belongs(each)]
        best = best_of(own, objective, least) or max(own, key=lambda each: each.accuracy, default=None)
        if best is not None:
            chosen[name] = best
    return chosen
