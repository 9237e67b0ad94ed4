"""The search as one call."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stas_neuro.chips import Profile, load_profiles
from stas_neuro.choices import DEFAULT_PROFILE, MODES, Goal, Mode
from stas_neuro.compiler.opened import open_trained
from stas_neuro.data import LabelledImages, load_data
from stas_neuro.errors import InputError, unknown
from stas_neuro.optimiser.choice import POINTS, Choice, Picked
from stas_neuro.optimiser.confirm import Batch, Chosen, Confirmer
from stas_neuro.optimiser.measure import CALIBRATED, Bench, Images
from stas_neuro.optimiser.placements import Placements
from stas_neuro.optimiser.result import Optimised, Point
from stas_neuro.optimiser.search import Report, Search, Target, Task
from stas_neuro.optimiser.space import Space
from stas_neuro.optimiser.workers import Doing, doing


def optimise(  # noqa: PLR0913
    model: Any,
    data: LabelledImages | str,
    *,
    profile: Profile | str | Path = DEFAULT_PROFILE,
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
        Labelled images, or a source as for ``--data``; at least 32.
    profile : Profile or str
        The chip; it must have cores and times. Without static power, energies are those of events only.
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
        Largest number of points of the frontier that are compiled and run, besides the best and the rivals.
    folder : Path, optional
        Where to write a bundle for each point.
    jobs : int
        Number of processes. With more than 1, a script needs the usual guard ``if __name__ == "__main__"``.
    report : callable, optional
        Called with what is done, and the number of finished and of all networks or points.

    Raises
    ------
    InputError
        When data have no labels or too few images, options conflict, the network cannot be compiled, or no
        deployment can be priced on the chip.
    """
    chosen = Choice(objective, min_accuracy, max_drop, points)
    (found,) = optimise_all(
        model,
        data,
        targets_of((profile,), (mode,)),
        choice=chosen,
        calibrate=calibrate,
        rivals=rivals,
        space=space,
        folder=folder,
        jobs=jobs,
        report=report,
    )
    return found


def optimise_all(  # noqa: PLR0913
    model: Any,
    data: LabelledImages | str,
    targets: Sequence[Target],
    *,
    choice: Choice | None = None,
    calibrate: LabelledImages | str | None = None,
    rivals: Mapping[str, Any] | None = None,
    space: Space | None = None,
    folder: Path | None = None,
    jobs: int = 1,
    report: Report | None = None,
) -> tuple[Optimised, ...]:
    """Search for several chips and modes at once, which share what is measured of the networks.

    Parameters
    ----------
    targets : sequence of Target
        The chips and modes, from `targets_of`: a frontier is found for each.
    choice : Choice, optional
        What `best` is chosen by, and how many points are compiled.
    folder : Path, optional
        Where to write bundles: with several chips or modes, in a folder for each, such as `loihi2-stream`.

    Other parameters, and errors, are those of `optimise`.

    Returns
    -------
    tuple of Optimised
        In the order of the targets.
    """
    started = time.monotonic()
    choice, report = choice or Choice(), report or (lambda what, done, total: None)
    images = Images.halves(load_data(data))
    sample = images.chosen_on.select(slice(0, CALIBRATED)) if calibrate is None else calibrate
    given = {"": model, **(rivals or {})}
    benches = [Bench(label, open_trained(each), images, sample) for label, each in given.items()]
    with TemporaryDirectory(prefix="stas-placements-") as shared:
        search = Search(benches, targets, space or Space(), Placements(Path(shared)))
        worker = _Worker(search, Confirmer(benches))
        with doing(worker, jobs) as do:
            explored = search.explore(search.tasks(), do, report)
            if not any(part.found for part in explored):
                reasons = "; ".join(what for what, _ in explored[0].refused.most_common(3))
                what = f"no deployment on {targets[0].profile.name} can be priced: {reasons}"
                raise InputError(what, "use another profile")
            picked = [choice.of(part, target) for part, target in zip(explored, targets, strict=True)]
            points = _confirmed(worker, picked, folder, do, report)
    return tuple(
        Optimised(
            profile=pick.target.profile.name,
            mode=pick.target.mode,
            objective=choice.objective,
            least_accuracy=pick.least,
            events_only=pick.target.profile.reason("power.static"),
            images=(len(images.chosen_on), len(images.reported_on)),
            networks=part.networks,
            deployments=len(part.found),
            refused=dict(part.refused),
            seconds=time.monotonic() - started,
            points=tuple(points[number]),
            left_out=pick.left_out,
        )
        for number, (part, pick) in enumerate(zip(explored, picked, strict=True))
    )


def targets_of(profiles: Sequence[Profile | str | Path], modes: Sequence[Mode]) -> list[Target]:
    """Combine profiles, or names or paths of them, and modes.

    Raises
    ------
    InputError
        When a chip and mode are given twice, or nothing can be priced on a chip.
    """
    chips = load_profiles(profiles)
    if wrong := [mode for mode in modes if mode not in MODES]:
        raise unknown("mode", wrong[0], tuple(MODES))
    targets = [Target(chip, mode) for chip in chips for mode in modes]
    names = [target.name for target in targets]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"{twice[0]} is given twice", "give each profile and mode once")
    if not targets:
        raise InputError("there is nothing to search", "give at least one profile and one mode")
    for target in targets:
        target.check()
    return targets


@dataclass(frozen=True)
class _Worker:
    """Does the tasks of a search, and the batches of its points."""

    search: Search
    confirmer: Confirmer

    def do(self, task: Task | Batch) -> Any:
        """Do a task or a batch."""
        return self.search.part(task) if isinstance(task, Task) else self.confirmer.points(task)


def _confirmed(
    worker: _Worker, picked: Sequence[Picked], folder: Path | None, do: Doing, report: Report
) -> list[list[Point]]:
    """Compile and run the picked candidates; return the points of each target in their order."""
    labels = [bench.label for bench in worker.search.benches]
    batches: dict[tuple[object, ...], list[tuple[int, int, Chosen]]] = {}
    for number, pick in enumerate(picked):
        bundles: dict[tuple[object, ...], str] = {}
        for place, (candidate, roles) in enumerate(pick.candidates):
            variant = candidate.variant
            made = variant.name, candidate.placing
            name = bundles.setdefault(made, f"point{len(bundles) + 1:02d}.stas")
            path = None
            if folder is not None:
                path = (folder / pick.target.name if len(picked) > 1 else folder) / name
            chosen = Chosen(pick.target, candidate, roles, path)
            bench = labels.index(variant.model)
            batches.setdefault((bench, *variant.recipe), []).append((number, place, chosen))
    tasks = [
        Batch(labels.index(members[0][2].candidate.variant.model), tuple(each for *_, each in members))
        for members in batches.values()
    ]
    total, done = sum(len(task.chosen) for task in tasks), 0
    report("points", 0, total)
    found: dict[tuple[int, int], Point] = {}
    for members, points in zip(batches.values(), do(tasks), strict=True):
        for (number, place, _), point in zip(members, points, strict=True):
            found[number, place] = point
        done += len(points)
        report("points", done, total)
    return [
        [found[number, place] for place in range(len(pick.candidates))] for number, pick in enumerate(picked)
    ]
