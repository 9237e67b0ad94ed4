"""Texts of reports for a chip that cannot run the network that was compiled for it or priced on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from stas_neuro.chips import Finding
from stas_neuro.energy import Comparison, Estimate


def cannot_take(profile: str, what: str, errors: Sequence[Finding]) -> str:
    """Return a line with the number of problems of a network on a chip, and the first of them."""
    worst = errors[0]
    number = f"{len(errors)} problem{'s' if len(errors) > 1 else ''}"
    return (
        f"{profile} cannot run {what}: {number}, the worst is {worst.resource} of "
        f"{worst.layer or 'the whole network'} ({worst.used}; limit: {worst.limit})"
    )


def what_if_lines(estimates: Iterable[tuple[str, Estimate]]) -> list[str]:
    """Return one line for each chip with the labelled runs that it cannot run, according to their counts."""
    refused: dict[str, dict[str, tuple[Finding, ...]]] = {}
    for label, cost in estimates:
        if cost.what_if:
            refused.setdefault(cost.profile, {})[label] = cost.what_if
    texts = []
    for profile, runs in refused.items():
        what = f"{', '.join(runs)}, according to the counts"
        line = cannot_take(profile, what, max(runs.values(), key=len))
        texts.append(f"what-if: {line}; stas-export check lists all")
    return texts


def comparison_what_if(result: Comparison) -> list[str]:
    """Return the lines of `what_if_lines` for a comparison."""
    sides = (
        pair
        for row in result.rows
        for pair in (("the network with halting", row.halting), (f"'{row.baseline}'", row.without))
    )
    return what_if_lines((label, cost) for label, cost in sides if cost is not None)
