"""Which runs can be compared: those that differ in nothing but what is compared."""

from __future__ import annotations

from collections.abc import Mapping

from stas_neuro.activity import COMPARED, SAME_NETWORK, Activity, check_facts, not_checked
from stas_neuro.analysis import HALTING_KINDS
from stas_neuro.chips.profile import list_profiles, load_profile
from stas_neuro.energy.gating import computed_halted
from stas_neuro.errors import InputError

_SIZES = ("neurons_per_core", "synaptic_memory_per_core", "cores_per_chip")
"""Limits that decide how many cores and chips a network takes."""


def check_alike(runs: Mapping[str, Activity]) -> tuple[str, ...]:
    """Refuse to compare runs, by label, that ran on other images or were counted otherwise.

    Returns
    -------
    tuple of str
        What could not be checked, because a record does not say it.

    Raises
    ------
    InputError
        When two differ in images, labels, classes, arithmetic, bits of weights, processes or chip; when one
        is on cores and another is not, or a layer takes reals in one (`macs`) and integers in another
        (`synops`). Names both runs and the values.
    """
    return (*check_facts(runs, COMPARED).values(), *_check_chips(runs))


def _check_chips(runs: Mapping[str, Activity]) -> list[str]:
    """Refuse runs placed for chips whose cores differ; say where the cores of a chip are not known."""
    placed = {label: run.origin.chip for label, run in runs.items() if run.cores}
    if len(placed) < 2:
        return []
    told = [not_checked(label, "for which chip it was placed") for label, chip in placed.items() if not chip]
    (first, one), *others = [(label, chip) for label, chip in placed.items() if chip] or [("", "")]
    for label, chip in ((label, chip) for label, chip in others if chip != one):
        what = f"'{first}' was placed for {one}, '{label}' for {chip}"
        sizes = [_sizes(name) for name in (one, chip)]
        if None in sizes:
            told.append(f"{what}: whether these have the same cores could not be checked")
        elif sizes[0] != sizes[1]:
            raise InputError(
                f"{what}, whose cores differ ({sizes[0]}; {sizes[1]})", "compile both with the same --profile"
            )
    return told


def _sizes(chip: str) -> str | None:
    """Tell what decides how many cores and chips a network takes; None of a chip not in the catalogue."""
    if chip not in list_profiles() or load_profile(chip).reason("limits") is not None:
        return None
    profile = load_profile(chip)
    neurons, memory, cores = (profile.limit(name) for name in _SIZES)
    return f"{neurons} neurons and {memory} B of weights each, {cores} a chip"


def check_same_network(runs: Mapping[str, Activity]) -> tuple[str, ...]:
    """Refuse runs, by label, of networks that differ in more than schedule, gating and placement.

    Returns what could not be checked, as `check_alike`; raises InputError likewise.
    """
    return tuple(check_facts(runs, SAME_NETWORK).values())


def check_baselines(
    label: str, run: Activity, baselines: Mapping[str, Activity]
) -> dict[str, tuple[str, ...]]:
    """Refuse runs without halting, by label, that cannot be compared with one that halts, called `label`.

    A run that computed halted tokens (gating none) is without halting: it spared nothing.

    Returns
    -------
    dict of label to tuple of str
        What could not be checked of the run and each baseline, because a record does not say it.

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
            f"'{label}' does not halt: there is nothing that halting could save",
            "give the run with halting first, and those without as baselines",
        )
    unchecked = {}
    for name, baseline in baselines.items():
        if halts(baseline) and not computed_halted(baseline) and baseline.origin.gating != "none":
            made = "" if baseline.visits is None else f": it makes {baseline.token_ratio:.1%} of all visits"
            raise InputError(
                f"baseline '{name}' halts itself{made}",
                "give a run without halting: of stage 1, of the model compiled with --accumulate off, or of "
                "the same bundle run with --gating none",
            )
        silent = [each for each, record in ((label, run), (name, baseline)) if halts(record) is None]
        told = check_alike({label: run, name: baseline})
        unchecked[name] = (*told, *(not_checked(each, "whether it halts") for each in silent))
    return unchecked


def halts(run: Activity) -> bool | None:
    """Tell whether tokens of a run can halt; None where the record does not say it."""
    if any(row.kind in HALTING_KINDS for row in run.layers) or run.counts["updates_gated"].any():
        return True
    return None if run.visits is None else not run.visits.all()
