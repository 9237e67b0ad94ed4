"""Runs of a report, and their prices on every chip."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from stas_neuro.activity import Activity
from stas_neuro.chips import CannotRun, MissingEntry, Profile
from stas_neuro.energy import Comparison, Deployment, Estimate, check_alike, compare, estimate
from stas_neuro.energy.comparable import halts
from stas_neuro.energy.gating import computed_halted
from stas_neuro.errors import InputError
from stas_neuro.report.refused import Refused

Cost = Estimate | Refused
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False, kw_only=True)
class Run:
    """A run of a report.

    Parameters
    ----------
    label : str
    activity : Activity
    predictions : int (images,), optional
        Indices of the predicted classes; None where they are unknown.
    """

    label: str
    activity: Activity
    predictions: npt.NDArray[np.int64] | None = None

    @property
    def accuracy(self) -> float | None:
        """Share of images that are classified correctly; None without predictions or labels."""
        labels = self.activity.origin.labels
        if self.predictions is None or labels is None:
            return None
        return float((self.predictions == np.array(labels)).mean())

    @property
    def token_ratio(self) -> float | None:
        """Mean of visits / (T*L) over images and tokens; None where visits are unknown."""
        return None if self.activity.visits is None else self.activity.token_ratio

    @property
    def saves_work(self) -> bool:
        """Whether halting spared this run work: its tokens can halt, and what halted was not computed."""
        computed = computed_halted(self.activity) or self.activity.origin.gating == "none"
        return halts(self.activity) is True and not computed


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What runs cost.

    Parameters
    ----------
    costs : mapping of label to tuple of Estimate or Refused
        One for each chip; the chips that are cheapest for the first run are first, those without a price
        last.
    comparison : Comparison or None
        What the first run saves relative to the runs without halting, on the same chips; None unless it
        halts and there are any.
    unchecked : tuple of str
        Facts about the runs that could not be checked.
    """

    costs: Mapping[str, tuple[Cost, ...]]
    comparison: Comparison | None
    unchecked: tuple[str, ...]

    @property
    def estimates(self) -> list[Estimate]:
        """All prices."""
        return [cost for costs in self.costs.values() for cost in costs if isinstance(cost, Estimate)]


def price_runs(
    runs: Sequence[Run],
    profiles: Sequence[Profile],
    deployment: Deployment,
    progress: Progress | None = None,
) -> Prices:
    """Price every run on every chip.

    `deployment` is that of the first run. Runs without halting are on their own fastest schedule, as for
    `compare`; others as the first run, on theirs. `progress` is called with the numbers of chips that are
    done, and of all.

    Raises
    ------
    InputError
        When there are no runs, two have the same label or cannot be compared, or as for `estimate`.
    """
    if not runs:
        raise InputError("there is no run to report on", "give at least one run")
    labels = [run.label for run in runs]
    if repeated := [label for label in labels if labels.count(label) > 1]:
        raise InputError(f"two runs are called '{repeated[0]}'", "give each run a label: LABEL=RUN")
    unchecked = dict.fromkeys(check_alike({run.label: run.activity for run in runs}))
    first, *others = runs
    baselines = [run for run in others if first.saves_work and not run.saves_work]
    found: list[tuple[dict[str, Cost], Comparison | None]] = []
    for number, profile in enumerate(profiles):
        costs, compared = _compared(first, baselines, profile, deployment)
        for run in runs:
            if run.label not in costs:
                way = deployment if run is first else replace(deployment, schedule=None)
                way = way if run is first or run.saves_work else deployment.without_halting()
                costs[run.label] = _price(run.activity, profile, way)
        found.append((costs, compared))
        if progress is not None:
            progress(number + 1, len(profiles))
    found.sort(key=lambda each: _rank(each[0][first.label]))
    rows = [row for _, compared in found if compared is not None for row in compared.rows]
    unchecked |= dict.fromkeys(reason for row in rows for reason in row.unchecked)
    return Prices(
        costs={label: tuple(costs[label] for costs, _ in found) for label in labels},
        comparison=Comparison(rows=tuple(rows)) if rows else None,
        unchecked=tuple(unchecked),
    )


def _compared(
    first: Run, baselines: Sequence[Run], profile: Profile, deployment: Deployment
) -> tuple[dict[str, Cost], Comparison | None]:
    """Compare the first run with those without halting on a chip; return what all of these cost, too."""
    if not baselines:
        return {}, None
    without = {run.label: run.activity for run in baselines}
    result = compare(first.activity, without, [profile], deployment, label=first.label)
    costs: dict[str, Cost] = {}
    for row in result.rows:
        costs[first.label] = row.halting or _refused(profile.name, row.unavailable["halting"])
        costs[row.baseline] = row.without or _refused(profile.name, row.unavailable["without"])
    return costs, result


def _price(activity: Activity, profile: Profile, deployment: Deployment) -> Cost:
    try:
        return estimate(activity, profile, deployment)
    except (MissingEntry, CannotRun) as error:
        return _refused(profile.name, str(error))


def _refused(profile: str, reason: str) -> Refused:
    return Refused(profile=profile, reason=reason)


def _rank(cost: Cost) -> tuple[int, float]:
    """Return what chips are ordered by: whether the total is known, else the energy of events, and its J."""
    if isinstance(cost, Refused):
        return 3, 0.0
    if cost.energy_j is not None:
        return 0, cost.energy_j.value
    return (2, 0.0) if cost.dynamic_energy_j is None else (1, cost.dynamic_energy_j.value)
