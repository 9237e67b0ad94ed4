"""Checks that runs are comparable: they must differ only in what is compared."""

from __future__ import annotations

from collections.abc import Mapping

from stas_neuro.activity import COMPARED, HALTING_KINDS, SAME_NETWORK, Activity, check_facts, not_checked
from stas_neuro.chips.catalogue import list_profiles, load_profile
from stas_neuro.energy.gating import computed_halted
from stas_neuro.errors import InputError

_SIZES = ("neurons_per_core", "synaptic_memory_per_core", "cores_per_chip")
"""Limits that determine how many cores and chips a network occupies."""


def check_alike(runs: Mapping[str, Activity]) -> tuple[str, ...]:
    """Refuse to compare runs, by label, that used different images or were counted differently.

    Returns
    -------
    tuple of str
        Facts that could not be checked, because a record lacks them.

    Raises
    ------
    InputError
        When two runs differ in images, labels, classes, arithmetic, weight bits, processes or chip; when only
        one of them is mapped to cores; or when a layer has real-valued input in one (`macs`) and integer
        input in the other (`synops`). The error names both runs and their values.
    """
    return (*check_facts(runs, COMPARED).values(), *_check_chips(runs))


def _check_chips(runs: Mapping[str, Activity]) -> list[str]:
    """Refuse runs placed for chips with different cores; return the facts that could not be checked."""
    placed = {label: run.origin.chip for label, run in runs.items() if run.cores}
    if len(placed) < 2:
        return []
    unchecked = [
        not_checked(label, "for which chip it was placed") for label, chip in placed.items() if not chip
    ]
    (first, one), *others = [(label, chip) for label, chip in placed.items() if chip] or [("", "")]
    for label, chip in ((label, chip) for label, chip in others if chip != one):
        what = f"'{first}' was placed for {one}, '{label}' for {chip}"
        sizes = [_sizes(name) for name in (one, chip)]
        if None in sizes:
            unchecked.append(f"{what}: whether these have the same cores could not be checked")
        elif sizes[0] != sizes[1]:
            raise InputError(
                f"{what}, whose cores differ ({sizes[0]}; {sizes[1]})", "compile both with the same --profile"
            )
    return unchecked


def _sizes(chip: str) -> str | None:
    """Return the `_SIZES` of a chip as text; None if the catalogue has no such chip or no limits for it."""
    if chip not in list_profiles() or load_profile(chip).reason("limits") is not None:
        return None
    profile = load_profile(chip)
    neurons, memory, cores = (profile.limit(name) for name in _SIZES)
    return f"{neurons} neurons and {memory} B of weights per core, {cores} cores per chip"


def check_same_network(runs: Mapping[str, Activity]) -> tuple[str, ...]:
    """Refuse runs, by label, whose networks differ in more than schedule, gating and placement.

    Returns the facts that could not be checked, and raises InputError, as `check_alike` does.
    """
    return tuple(check_facts(runs, SAME_NETWORK).values())


def check_baselines(
    label: str, run: Activity, baselines: Mapping[str, Activity]
) -> dict[str, tuple[str, ...]]:
    """Refuse baselines (runs without halting, by label) that cannot be compared with the halting run `label`.

    A run that computed halted tokens (gating none) counts as a baseline, because it saved no work.

    Returns
    -------
    dict of label to tuple of str
        For each baseline, the facts about it and the run that could not be checked, because a record lacks
        them.

    Raises
    ------
    InputError
        As `check_alike`, or when the run does not halt, or a baseline does.
    """
    if label in baselines:
        raise InputError(f"two runs are called '{label}'", "give the baseline another label")
    check_alike({label: run} | dict(baselines))
    if baselines and halts(run) is False:
        raise InputError(
            f"'{label}' does not halt, so halting saves nothing",
            "pass the run with halting first, and runs without halting as baselines",
        )
    unchecked = {}
    for name, baseline in baselines.items():
        if halts(baseline) and not computed_halted(baseline) and baseline.origin.gating != "none":
            ratio = "" if baseline.visits is None else f": its token ratio is {baseline.token_ratio:.1%}"
            raise InputError(
                f"baseline '{name}' uses halting{ratio}",
                "use a run of the stage-1 model, of the model compiled with --accumulate off, or of the same "
                "bundle run with --gating none",
            )
        unknown = [each for each, record in ((label, run), (name, baseline)) if halts(record) is None]
        facts = check_alike({label: run, name: baseline})
        unchecked[name] = (*facts, *(not_checked(each, "whether it halts") for each in unknown))
    return unchecked


def halts(run: Activity) -> bool | None:
    """Return whether tokens of a run can halt; None if the record does not show it."""
    if any(row.kind in HALTING_KINDS for row in run.layers) or run.counts["updates_gated"].any():
        return True
    return None if run.visits is None else not run.visits.all()
