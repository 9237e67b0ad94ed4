"""What reports say of a chip that cannot take the network that was compiled for it, or priced on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stas_neuro.chips import Finding
from stas_neuro.energy import Comparison, Estimate


def cannot_take(profile: str, what: str, errors: Sequence[Finding]) -> str:
    """Say in a line how many problems stand between a chip and a network, and the first of them."""
    worst = errors[0]
    number = f"{len(errors)} problem{'s' if len(errors) > 1 else ''}"
    return (
        f"{profile} cannot take {what}: {number}, the worst: {worst.resource} of "
        f"{worst.layer or 'the whole network'} ({worst.used}; limit: {worst.limit})"
    )


def what_if_lines(estimates: Iterable[tuple[str, Estimate]]) -> list[str]:
    """Say for each chip which of the labelled runs it cannot take, as far as their records show."""
    refused: dict[str, dict[str, tuple[Finding, ...]]] = {}
    for label, cost in estimates:
        if cost.what_if:
            refused.setdefault(cost.profile, {})[label] = cost.what_if
    told = []
    for profile, runs in refused.items():
        what = f"{', '.join(runs)}, as the counts show"
        line = cannot_take(profile, what, max(runs.values(), key=len))
        told.append(f"what-if: {line}; stas-export check lists all")
    return told


def comparison_what_if(result: Comparison) -> list[str]:
    """Say the same of a comparison."""
    sides = (
        pair
        for row in result.rows
        for pair in (("the run with halting", row.halting), (f"'{row.baseline}'", row.without))
    )
    return what_if_lines((label, cost) for label, cost in sides if cost is not None)
