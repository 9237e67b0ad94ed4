"""What prices rest on is said beside each of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support.energy_runs import run
from support.rendering import shown

from stas_neuro.chips import Entry, Profile, Source, load_profile
from stas_neuro.energy import compare, disclaimer_of, estimate
from stas_neuro.report import comparison_report, estimate_report

PUBLISHED, OWN, ASSUMED = "published figures", "figures of own measurements", "assumed figures"


def chip(basis: str, *, own: bool) -> Profile:
    """Loihi with all its prices on one basis and from one source."""
    loihi = load_profile("loihi1")

    def based(entries: dict[str, Entry]) -> dict[str, Entry]:
        return {
            name: replace(entry, basis=basis, source="s", note="test")  # type: ignore[arg-type]
            for name, entry in entries.items()
        }

    sections = {name: based(dict(getattr(loihi, name))) for name in ("energy", "time", "power", "limits")}
    return replace(loihi, sources={**loihi.sources, "s": Source(citation="us", own=own)}, **sections)


@pytest.mark.parametrize(
    ("basis", "own", "words"),
    [
        ("measured", False, PUBLISHED),
        ("fitted", False, PUBLISHED),
        ("fitted", True, OWN),
        ("measured", True, OWN),
        ("assumed", False, ASSUMED),
        ("assumed", True, ASSUMED),
    ],
)
def test_an_estimate_says_what_its_figures_rest_on(basis: str, own: bool, words: str) -> None:
    cost = estimate(run(), chip(basis, own=own))
    assert cost.disclaimer == f"estimated from {words}, not measured"
    assert cost.to_json()["disclaimer"] == cost.disclaimer
    assert f"All figures are {cost.disclaimer}." in shown(estimate_report(cost))


def test_only_what_the_price_depends_on_counts() -> None:
    cost = estimate(run(), "loihi1")
    assert cost.disclaimer == f"estimated from {PUBLISHED} and {ASSUMED}, not measured"
    assert cost.figures["own"] == ()
    assert "energy.score_lookup" in cost.figures["assumed"]
    assert {"time.barrier", "power.static", "limits.neurons_per_core"} <= set(cost.figures["published"])
    named = [name for names in cost.figures.values() for name in names]
    assert len(named) == len(set(named))
    # Nothing crosses chips, no message goes from tile to tile, and no pixel comes from the host.
    assert not {"energy.hop_x", "time.barrier_multi_chip", "energy.io_message"} & set(named)
    assert {event.entry for event in cost.events} <= set(named)
    without = estimate(run(halting=False), "loihi1")
    assert "energy.score_lookup" not in without.figures["assumed"]
    # An operation count has neither time nor cores.
    assert {name.split(".")[0] for names in estimate(run(), "cmos45").figures.values() for name in names} == {
        "energy"
    }
    assert estimate(run(), "speck").disclaimer == "estimated, not measured"  # it has no price of any event


def test_a_comparison_says_what_all_its_rows_rest_on() -> None:
    count, board = load_profile("cmos45"), replace(chip("fitted", own=True), name="board")
    baselines = {"off": run(halting=False)}
    result = compare(run(), baselines, [count, board])
    assert result.disclaimer == f"estimated from {OWN} and {ASSUMED}, not measured"
    assert json.loads(json.dumps(result.to_json()))["disclaimer"] == result.disclaimer
    one = replace(result, rows=result.rows[1:])  # of the rows it has now
    assert one.disclaimer == f"estimated from {OWN}, not measured"
    assert f"All figures are {one.disclaimer}." in shown(comparison_report(one))
    assert disclaimer_of([]) == "estimated, not measured"
    everything = {"published": ("a",), "own": ("b",), "assumed": ("c",)}
    assert disclaimer_of([everything]) == f"estimated from {PUBLISHED}, {OWN} and {ASSUMED}, not measured"
