"""What a price would be with other structures: each is a price of its own, and the range has them all."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.energy_runs import run
from support.mapped_runs import CHIP, HALTED

from stas_neuro.activity import ActivityBuilder, Layer, step_labels
from stas_neuro.chips import load_profile
from stas_neuro.energy import Deployment, Estimate, Totals, estimate

SKIPPED = "idle neurons are skipped"
SPREAD = "all layers are spread over a whole chip"
SILENT = "no message goes between cores or from the host"


def variants(cost: Estimate) -> dict[str, Totals]:
    return {variant.change: variant.totals for variant in cost.variants}


def test_each_run_has_the_structures_that_are_in_doubt() -> None:
    assert list(variants(estimate(run(), "loihi1"))) == [SPREAD]  # it steps idle neurons, as was measured
    assert list(variants(estimate(run(), "loihi2"))) == [SKIPPED, SPREAD]
    assert list(variants(estimate(HALTED, CHIP))) == [SKIPPED, SILENT]
    assert list(variants(estimate(run(), "loihi2", Deployment(idle_update="stepped", replicas=2)))) == []
    none = estimate(run(), "cmos45")
    assert none.variants == () and none.structural_range is None
    assert estimate(run(), "loihi2", variants=False).variants == ()


def test_a_network_spread_over_a_chip_takes_its_share_of_the_time_and_all_cores() -> None:
    neurons = 1000
    layer = Layer(name="net", kind="LIF", scope="", neurons=neurons, out_features=1, stage=0)
    builder = ActivityBuilder([layer], step_labels(1), images=1)
    builder.add("updates_inactive", "net", "step1", neurons)
    cost = estimate(builder.build(), "loihi1")
    spread = variants(cost)[SPREAD]
    assert cost.cores == 1 and cost.latency_s is not None and spread.latency_s is not None
    fixed = 465e-9 + 9.7e-6
    assert cost.latency_s.value == pytest.approx(fixed + neurons * 5.3e-9)
    assert spread.latency_s.value == pytest.approx(fixed + neurons / 128 * 5.3e-9)
    assert spread.dynamic_energy_j == cost.dynamic_energy_j and spread.energy_j is not None
    power = 128 * 0.47e-3 + 22.1e-3
    assert spread.energy_j.value == pytest.approx(neurons * 52e-12 + power * spread.latency_s.value)


def test_without_messages_nothing_passes_between_cores() -> None:
    cost = estimate(HALTED, CHIP)
    energy = {event.event: event.energy_j.value for event in cost.events}
    between = sum(energy[name] for name in ("hops_x", "hops_y", "chip_crossings", "input_messages"))
    each = CHIP.corners("energy.spike_message")[1]
    copies = (HALTED.total("axon_messages") - HALTED.total("spikes_out")) / HALTED.images * each
    silent = variants(cost)[SILENT]
    assert silent.dynamic_energy_j is not None and between > 0
    assert silent.dynamic_energy_j.value == pytest.approx(cost.dynamic_energy_j.value - between - copies)
    assert silent.latency_s is not None and cost.latency_s is not None
    assert silent.latency_s.value < cost.latency_s.value  # the host sends nothing


def test_the_range_has_the_price_and_all_variants() -> None:
    cost = estimate(run(), "loihi2")
    assert cost.structural_range is not None
    for name in ("energy_j", "dynamic_energy_j", "latency_s"):
        found = getattr(cost.structural_range, name)
        values = [getattr(each, name).value for each in (cost, *variants(cost).values())]
        assert (found.low, found.value, found.high) == (min(values), values[0], max(values))
    skipped = estimate(run(), replace(load_profile("loihi2")), Deployment(idle_update="skipped"))
    assert variants(cost)[SKIPPED].energy_j == skipped.energy_j
    document = cost.to_json()
    assert document["variants"][0]["change"] == SKIPPED
    assert set(document["structural_range"]) == {"energy_j", "dynamic_energy_j", "latency_s"}
