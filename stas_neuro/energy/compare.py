"""Savings by halting, for each profile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from stas_neuro.activity import Activity, image_by_image
from stas_neuro.chips.errors import CannotRun
from stas_neuro.chips.profile import MissingEntry, Profile
from stas_neuro.display import HtmlTable, Plotted, share_with_ends, with_ends
from stas_neuro.energy.bounds import PerImage, ceiling, costs_of_images, over_images
from stas_neuro.energy.comparable import check_baselines
from stas_neuro.energy.costs import cost_of
from stas_neuro.energy.deployment import DEFAULT, Deployment
from stas_neuro.energy.figures import disclaimer_of
from stas_neuro.energy.gating import computed_halted
from stas_neuro.energy.pricing import estimate, estimate_of, op_count
from stas_neuro.energy.result import Estimate, Interval
from stas_neuro.energy.savings import Split, at_every_step, held_to, split
from stas_neuro.energy.timing import Schedule
from stas_neuro.frames import ends, to_frame

if TYPE_CHECKING:
    import pandas

Refusal = MissingEntry | CannotRun
_NOTHING = "the run without halting costs nothing"


@dataclass(frozen=True, kw_only=True)
class Savings:
    """The savings of a `Saving` under another assumption."""

    energy_saving: Interval | None
    dynamic_energy_saving: Interval | None
    latency_saving: Interval | None


@dataclass(frozen=True, kw_only=True)
class Saving:
    """Savings on one profile against one baseline.

    Savings are fractions: 0.3 means 30 % less with halting, negative values mean more.
    `schedule` is that of the run with halting. `idle_skipped` has the savings if neurons without work are not
    updated. `over_images` has the interval that comes from the choice of images, and `ceiling` the largest
    saving of energy that halting can reach (`bounds.py`).
    `unavailable` has the reason for each field that is None, by field name. `missing` lists the entries that
    the profile lacks. `unchecked` lists the facts about the two runs that are unknown; if there are any, it
    is not certain that the runs are comparable.
    """

    profile: str
    baseline: str
    schedule: str
    baseline_schedule: str
    energy_saving: Interval | None
    dynamic_energy_saving: Interval | None
    latency_saving: Interval | None
    idle_skipped: Savings | None
    over_images: Savings | None
    ceiling: Interval | None
    op_count_saving: float | None
    savings_survival: Interval | None
    break_even_token_ratio: Interval | None
    split: Split | None
    halting: Estimate | None
    without: Estimate | None
    missing: tuple[str, ...]
    unavailable: dict[str, str]
    unchecked: tuple[str, ...]

    @property
    def costs(self) -> tuple[Estimate | None, Estimate | None]:
        """The estimates with and without halting."""
        return self.halting, self.without

    def to_row(self) -> dict[str, Any]:
        """Return it as one row of a table; an interval is three columns, name, name_low and name_high."""
        columns: dict[str, Any] = {"profile": self.profile, "baseline": self.baseline}
        columns["gating"] = self.halting.gating if self.halting else None
        columns |= {"schedule": self.schedule, "baseline_schedule": self.baseline_schedule}
        for prefix, cost in (("with", self.halting), ("without", self.without)):
            for name in ("cores", "chips", "hardware_steps", "token_ratio"):
                columns[f"{prefix}_{name}"] = getattr(cost, name, None)
            known = None if cost is None else cost.what_if
            columns[f"{prefix}_what_if"] = None if known is None else len(known)
            for name in ("energy_j", "dynamic_energy_j", "static_energy_j", "halting_energy_j", "latency_s"):
                columns |= ends(f"{prefix}_{name}", getattr(cost, name, None))
        for name in ("energy_saving", "dynamic_energy_saving", "latency_saving"):
            columns |= ends(name, getattr(self, name))
            columns |= ends(f"idle_skipped_{name}", getattr(self.idle_skipped, name, None))
            columns |= ends(f"over_images_{name}", getattr(self.over_images, name, None))
        columns |= ends("ceiling", self.ceiling)
        columns["op_count_saving"] = self.op_count_saving
        columns |= ends("savings_survival", self.savings_survival)
        columns |= ends("break_even_token_ratio", self.break_even_token_ratio)
        columns["split_of"] = self.split.of if self.split else None
        for name in (each.name for each in fields(Split) if each.name != "of"):
            columns |= ends(f"split_{name}", getattr(self.split, name, None))
        columns["unavailable"] = "; ".join(dict.fromkeys(self.unavailable.values()))
        columns["unchecked"] = "; ".join(self.unchecked)
        return columns


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison(Plotted):
    """Costs with and without halting on several chips; rows in the order of profiles, then of baselines."""

    disclaimer: str = field(init=False)
    rows: tuple[Saving, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "disclaimer", disclaimer_of(cost.figures for cost in self.estimates))

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """The estimates of all rows."""
        found = (cost for row in self.rows for cost in (row.halting, row.without))
        return tuple(cost for cost in found if cost is not None)

    def to_frame(self) -> pandas.DataFrame:
        """Return a data frame of pandas with a row for each profile and baseline, see `Saving.to_row`."""
        return to_frame(row.to_row() for row in self.rows)

    def _headline(self) -> str:
        profiles = dict.fromkeys(row.profile for row in self.rows)
        baselines = dict.fromkeys(row.baseline for row in self.rows)
        return f"{len(profiles)} profiles, relative to {', '.join(baselines)}; {self.disclaimer}"

    def _tables(self) -> Iterable[HtmlTable]:
        rows = []
        for row in self.rows:
            total = row.energy_saving is not None
            costs = (getattr(cost, "energy_j" if total else "dynamic_energy_j", None) for cost in row.costs)
            name = row.profile if total else f"{row.profile} (dynamic)"
            saved = share_with_ends(row.energy_saving or row.dynamic_energy_saving)
            rows.append((name, row.baseline, *(with_ends(cost, "J") for cost in costs), saved))
        columns = ("profile", "relative to", "with halting", "without", "saved")
        yield HtmlTable(rows, columns, "Energy of an image")

    def _note(self) -> str:
        return f"All figures are {self.disclaimer}."

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts and lists for `json.dumps`."""
        return asdict(self)


def compare(
    activity: Activity,
    baselines: Mapping[str, Activity],
    profiles: Sequence[Profile],
    deployment: Deployment = DEFAULT,
    *,
    baseline: Deployment | None = None,
    label: str = "the halting run",
) -> Comparison:
    """Price a halting run and runs without halting on several chips.

    Parameters
    ----------
    activity : Activity
        The run with halting.
    baselines : mapping of label to Activity
        Runs of the same images without halting, by a label that describes them: the stage-1 model, a single
        time step, or the same weights with halting ignored. A run that computed halted tokens qualifies, too.
    profiles : sequence of Profile
        Chips. If a profile lacks an entry, its rows name the entry.
    deployment : Deployment
        How the halting run is deployed.
    baseline : Deployment, optional
        How the baselines are. Default: as the halting run, on the fastest schedule that each allows, with one
        context and without an early end. Raster and time halting rule out pipelining, so a baseline on their
        schedule would overstate the saving. A baseline that computed halted tokens is always priced with
        gating `none`.
    label : str
        Name of the run with halting in errors and in `unchecked`.

    Raises
    ------
    InputError
        When runs cannot be compared (see `check_alike`), the run with halting does not halt, or a baseline
        does; or as for `estimate`.
    """
    activity, *others = image_by_image([activity, *baselines.values()])
    baselines = dict(zip(baselines, others, strict=True))
    unchecked = check_baselines(label, activity, baselines)
    own = deployment.schedule_of(activity)
    ours = op_count(activity, deployment.gating).value
    theirs = baseline or deployment.without_halting()
    rows = []
    for profile in profiles:
        halting, each = _try_images(activity, profile, deployment)
        for name, record in baselines.items():
            kind = None if computed_halted(record) else theirs.gating
            other = replace(theirs, gating=kind, schedule=theirs.schedule_of(record))
            held, taken = held_to(record, own, activity.late)
            kept = replace(deployment.on_schedule(taken), gating=kind, early_end=False)
            without, theirs_each = _try_images(record, profile, other)
            every_step = _try(at_every_step(record), profile, other)
            counted = ours, op_count(record, kind).value
            row = _saving(profile.name, name, (own, other.schedule_of(record)), halting, without, counted)
            row = _explain(row, every_step, _try(held, profile, kept))
            skipped = None
            if deployment.prices_both(profile):
                ways = (replace(way, idle_update="skipped") for way in (deployment, other))
                pair = (_try(run, profile, way) for run, way in zip((activity, record), ways, strict=True))
                skipped = Savings(**_savings(*pair))
            row = replace(row, unchecked=unchecked[name], idle_skipped=skipped)
            rows.append(_bound(row, each, theirs_each))
    return Comparison(rows=tuple(rows))


def _try(activity: Activity, profile: Profile, deployment: Deployment) -> Estimate | Refusal:
    try:
        return estimate(activity, profile, deployment, variants=False)
    except (MissingEntry, CannotRun) as refusal:
        return refusal


def _try_images(
    activity: Activity, profile: Profile, deployment: Deployment
) -> tuple[Estimate | Refusal, PerImage | None]:
    """Return the estimate of a run and the costs of its images."""
    try:
        cost = cost_of(activity, profile, deployment)
        return estimate_of(activity, profile, deployment, cost), costs_of_images(cost)
    except (MissingEntry, CannotRun) as refusal:
        return refusal, None


def _bound(row: Saving, ours: PerImage | None, theirs: PerImage | None) -> Saving:
    """Return the row with what limits its saving besides the profile."""
    reasons, images, most = dict(row.unavailable), None, None
    if ours is None or theirs is None or row.halting is None or row.without is None:
        why = row.unavailable["halting" if row.halting is None else "without"]
        return replace(row, unavailable=reasons | {"over_images": why, "ceiling": why})
    if row.halting.images < 2:
        reasons["over_images"] = "the runs have one image"
    else:
        images = Savings(**over_images(ours, theirs))
    if row.halting.gating in ("core", "power") or row.halting.early_end:
        reasons["ceiling"] = "with gating of cores or an early end halting also saves what needs no visit"
    elif (most := ceiling(row.without)) is None:
        reasons["ceiling"] = _reason("ceiling", row.without)
    return replace(row, over_images=images, ceiling=most, unavailable=reasons)


def _saving(
    profile: str,
    baseline: str,
    schedules: tuple[Schedule, Schedule],
    halting: Estimate | Refusal,
    without: Estimate | Refusal,
    operations: tuple[float, float],
) -> Saving:
    unavailable: dict[str, str] = {}
    counted = 1 - operations[0] / operations[1] if operations[1] else None
    results = _savings(halting, without)
    for name in (name for name, result in results.items() if result is None):
        unavailable[name] = _reason(name, halting, without)
    if counted is None:
        unavailable["op_count_saving"] = _NOTHING
    best = results["energy_saving"] or results["dynamic_energy_saving"]
    survival = _survival(best, counted, unavailable)
    missing: dict[str, None] = {}
    for name, side in (("halting", halting), ("without", without)):
        if not isinstance(side, Estimate):
            unavailable[name] = str(side)
        if isinstance(side, MissingEntry):
            missing[side.entry] = None
    return Saving(
        profile=profile,
        baseline=baseline,
        schedule=schedules[0],
        baseline_schedule=schedules[1],
        **results,
        idle_skipped=None,
        over_images=None,
        ceiling=None,
        op_count_saving=counted,
        savings_survival=survival,
        break_even_token_ratio=None,
        split=None,
        halting=halting if isinstance(halting, Estimate) else None,
        without=without if isinstance(without, Estimate) else None,
        missing=tuple(missing),
        unavailable=unavailable,
        unchecked=(),
    )


def _savings(halting: Estimate | Refusal, without: Estimate | Refusal) -> dict[str, Interval | None]:
    """Return the savings of total and dynamic energy and of latency; None where one is unknown."""
    energy = dynamic = latency = None
    if isinstance(halting, Estimate) and isinstance(without, Estimate):
        dynamic = _energy_saving(halting, without, total=False)
        if halting.energy_j and without.energy_j:
            energy = _energy_saving(halting, without, total=True)
        if halting.latency_s and without.latency_s:
            latency = _latency_saving(halting.latency_s, without.latency_s)
    return {"energy_saving": energy, "dynamic_energy_saving": dynamic, "latency_saving": latency}


def _explain(row: Saving, every_step: Estimate | Refusal, held: Estimate | Refusal) -> Saving:
    """Return the row with the split of its saving and the break-even token ratio added."""
    if row.halting is None or row.without is None:
        why = row.unavailable["halting" if row.halting is None else "without"]
        reasons = row.unavailable | {"split": why, "break_even_token_ratio": why}
        return replace(row, unavailable=reasons)
    reasons = dict(row.unavailable)
    parts = None
    if not isinstance(every_step, Estimate) or not isinstance(held, Estimate):
        reasons["split"] = str(held if isinstance(every_step, Estimate) else every_step)
    elif row.halting.dynamic_energy_j is None or row.without.dynamic_energy_j is None:
        reasons["split"] = _reason("split", row.halting, row.without)
    else:
        parts = split(every_step, row.without, held, row.halting)
    even = _break_even(row.halting, row.without, reasons)
    return replace(row, split=parts, break_even_token_ratio=even, unavailable=reasons)


def _survival(saving: Interval | None, counted: float | None, unavailable: dict[str, str]) -> Interval | None:
    """Divide the saving on a chip by the saving in the operation count."""
    if saving is None:
        unavailable["savings_survival"] = unavailable["dynamic_energy_saving"]
        return None
    if counted is None or counted <= 0:
        unavailable["savings_survival"] = "the operation count saves nothing"
        return None
    return Interval(saving.value / counted, saving.low / counted, saving.high / counted)


def _break_even(halting: Estimate, without: Estimate, unavailable: dict[str, str]) -> Interval | None:
    """Find the token ratio at which both runs cost the same, if visit energy is proportional to it.

    The interval comes from setting all entries to low, value and high, the same in both runs.
    """
    name, ratio = "break_even_token_ratio", halting.token_ratio
    if halting.visit_energy_j is None or without.dynamic_energy_j is None:
        unavailable[name] = _reason(name, halting, without)
        return None
    ends = []
    for corner in ("value", "low", "high"):
        both = (halting.energy_j, without.energy_j)
        if both[0] is None or both[1] is None:
            both = (halting.dynamic_energy_j, without.dynamic_energy_j)
        visits = getattr(halting.visit_energy_j, corner)
        if not ratio or not visits:
            unavailable[name] = "visits in the run with halting have no cost"
            return None
        ends.append(ratio * (1 + (getattr(both[1], corner) - getattr(both[0], corner)) / visits))
    if not 0 <= ends[0] <= 1:
        which = "more, even if no token is visited" if ends[0] < 0 else "less, even if all are visited"
        unavailable[name] = f"halting costs {which}"
        return None
    return Interval(value=ends[0], low=max(min(ends), 0.0), high=min(max(ends), 1.0))


def _reason(name: str, *sides: Estimate | Refusal) -> str:
    quantity = {"energy_saving": "energy_j", "latency_saving": "latency_s"}.get(name, "dynamic_energy_j")
    for side in sides:
        if not isinstance(side, Estimate):
            return str(side)
        if quantity in side.unavailable:
            return side.unavailable[quantity]
    return _NOTHING


def _energy_saving(halting: Estimate, without: Estimate, *, total: bool) -> Interval | None:
    """Find the range of the saving when each part of `_parts` is at its low or high in both runs.

    Dynamic energy is a sum over entries, so the saving, a quotient of such sums, has its extremes where each
    entry is at an end of its interval: the range is exact. Total energy is not such a sum, see `_parts`.
    """
    ours, theirs = _parts(halting, total), _parts(without, total)
    zero = Interval(0.0, 0.0, 0.0)
    names = list({**ours, **theirs})
    pairs = [(ours.get(name, zero), theirs.get(name, zero)) for name in names]
    table = np.array([[[side.value, side.low, side.high] for side in pair] for pair in pairs])
    # The first row has all parts at their value; the others are the corners, which include the extremes. Of
    # a part that is a power times a latency the ratio of both runs changes, so its value is a corner, too.
    places = [(1, 2) if "." in name else (1, 0, 2) for name in names]
    corners = np.array([(0,) * len(pairs), *product(*places)], dtype=np.intp)
    sums = np.zeros((2, len(corners)))
    for index, row in enumerate(table):
        sums += row[:, corners[:, index]]
    if not sums[1].all():
        return None
    savings = 1 - sums[0] / sums[1]
    return Interval(value=float(savings[0]), low=float(savings.min()), high=float(savings.max()))


def _parts(cost: Estimate, total: bool) -> dict[str, Interval]:
    """Split an energy into parts by the profile entry that each depends on.

    Static and management energy are one part each, although each is a power times a latency that depends on
    several entries.
    """
    parts: dict[str, Interval] = {}
    for event in cost.events:
        known, more = parts.get(event.entry, Interval(0.0, 0.0, 0.0)), event.energy_j
        parts[event.entry] = Interval(known.value + more.value, known.low + more.low, known.high + more.high)
    if total:
        for name, energy in (("static", cost.static_energy_j), ("management", cost.management_energy_j)):
            if energy is not None:
                parts[name] = energy
    return parts


def _latency_saving(ours: Interval, theirs: Interval) -> Interval | None:
    """Return the latency saving, with all entries at low, value and high, the same in both runs."""
    if not theirs.low:
        return None
    value, low, high = (
        1 - getattr(ours, corner) / getattr(theirs, corner) for corner in ("value", "low", "high")
    )
    return Interval(value=value, low=min(value, low, high), high=max(value, low, high))
