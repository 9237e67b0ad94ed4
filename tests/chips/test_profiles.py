from __future__ import annotations

import json
import pickle
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.paths import ROOT

from stas_neuro.chips.catalogue import list_profiles, load_profile, parse_profile
from stas_neuro.chips.entries import CAPABILITIES, ENTRIES, UNITS
from stas_neuro.chips.profile import Arithmetic, Capability, Entry, MissingEntry, Profile
from stas_neuro.errors import InputError

DOCS = ROOT / "docs" / "profiles.md"
ENTRY = {
    "value": 2.0,
    "low": 1.0,
    "high": 3.0,
    "unit": "pJ",
    "basis": "measured",
    "source": "me",
    "interval": "so",
}

WORD = {"value": "yes", "basis": "vendor", "source": "me"}


def toml(**changes: Any) -> bytes:
    """A small profile as TOML (JSON scalars and inline tables are TOML here)."""
    document: dict[str, Any] = {
        "schema_version": 1,
        "name": "mine",
        "title": "Mine",
        "graded_spikes": False,
        "step_law": "sum",
        "energy": {"synaptic_operation": ENTRY},
        "sources": {"me": {"citation": "me"}},
    }
    return "\n".join(f"{key} = {_inline(value)}" for key, value in (document | changes).items()).encode()


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_inline(item)}" for key, item in value.items()) + "}"
    return json.dumps(value)


@pytest.mark.parametrize("name", list_profiles())
def test_catalogue_is_complete_and_cited(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.missing() == []
    sources = [entry.source for entry in profile.entries().values()]
    sources += [capability.source for capability in profile.capabilities.values()]
    assert all(profile.sources[source].citation for source in sources)
    texts = [*profile.notes, *profile.unavailable.values()]
    for given in (*profile.entries().values(), *profile.capabilities.values()):
        texts += [given.note, getattr(given, "interval", "")]
    for key in set(profile.sources) - set(sources):  # cited by a text, boyle2025 as Boyle 2025
        cited = key.upper() if key.isalpha() else f"{key[:-4].capitalize()} {key[-4:]}"
        assert cited in " ".join(texts), f"nothing cites {key}"
    for entry in profile.entries().values():
        assert entry.low <= entry.value <= entry.high
        assert bool(entry.interval) == (entry.low < entry.high)
    assert profile.notes


def test_catalogue() -> None:
    names = "cmos45 cpu darwin3 gpu loihi1 loihi1-fitted loihi2 loihi2-gated-whatif odin speck"
    assert list_profiles() == tuple(f"{names} spinnaker1 spinnaker2 truenorth".split())
    assert all(f"| `{name}` |" in DOCS.read_text() for name in list_profiles())


@pytest.mark.parametrize(
    ("profile", "entry", "value", "unit", "basis"),
    [
        ("loihi1", "energy.synaptic_operation", 23.6, "pJ", "simulated"),
        ("loihi1", "energy.neuron_update_active", 72.3, "pJ", "fitted"),
        ("loihi1", "energy.neuron_update_inactive", 52.0, "pJ", "simulated"),
        ("loihi1", "time.synaptic_operation", 3.5, "ns", "simulated"),
        ("loihi2", "energy.synaptic_operation", 23.6, "pJ", "assumed"),
        ("loihi2", "time.synaptic_operation", 0.66, "ns", "vendor"),
        ("loihi2", "time.barrier", 1.78, "us", "measured"),
        ("cmos45", "energy.multiply_accumulate", 4.6, "pJ", "assumed"),
        ("cmos45", "energy.synaptic_operation", 0.9, "pJ", "assumed"),
        ("loihi1", "energy.cpu_operation", 2.8, "nJ", "assumed"),
        ("loihi1", "time.management_step", 9.7, "us", "fitted"),
        ("loihi1", "energy.hop_x", 3.0, "pJ", "simulated"),
        ("loihi1", "energy.hop_y", 4.0, "pJ", "simulated"),
        ("loihi1", "time.hop_x", 4.1, "ns", "simulated"),
        ("loihi1", "time.hop_y", 6.5, "ns", "simulated"),
        ("loihi1-fitted", "energy.synaptic_operation", 35.5, "pJ", "fitted"),
        ("loihi1-fitted", "energy.neuron_update_inactive", 51.2, "pJ", "fitted"),
        ("loihi1-fitted", "energy.spike_message", 69.3 + 111, "pJ", "fitted"),
        ("loihi1-fitted", "time.barrier", 1.8, "us", "fitted"),
        ("truenorth", "energy.synaptic_operation", 26.0, "pJ", "measured"),
        ("spinnaker1", "energy.synaptic_operation", 13.3, "nJ", "measured"),
        ("spinnaker1", "energy.neuron_update_active", 26.0, "nJ", "measured"),
        ("spinnaker2", "energy.synaptic_operation", 0.45, "nJ", "measured"),
        ("spinnaker2", "energy.neuron_update_active", 2.19, "nJ", "measured"),
        ("odin", "energy.synaptic_operation", 8.43, "pJ", "measured"),
        ("darwin3", "energy.synaptic_operation", 5.47, "pJ", "measured"),
        ("cpu", "energy.multiply_accumulate", 8.6, "nJ", "assumed"),
        ("gpu", "energy.multiply_accumulate", 0.3, "nJ", "assumed"),
        ("loihi1", "limits.input_axons_per_core", 4096, "1", "vendor"),
        ("loihi1", "limits.threshold_bits", 17, "bit", "vendor"),
    ],
)
def test_published_figures(profile: str, entry: str, value: float, unit: str, basis: str) -> None:
    found = load_profile(profile).entry(entry)
    assert (found.value, found.unit, found.basis) == (value, unit, basis)


def test_derived_figures_follow_from_what_they_are_derived_from() -> None:
    for name in ("loihi1", "loihi2", "loihi2-gated-whatif"):
        profile = load_profile(name)
        for section in ("energy", "time"):
            parts = profile.corners(f"{section}.synaptic_operation") + profile.corners(
                f"{section}.neuron_update_active"
            )
            assert profile.corners(f"{section}.score_lookup") == pytest.approx(parts, rel=1e-9)
    loihi = load_profile("loihi1")
    for section in ("energy", "time"):
        synapse = loihi.corners(f"{section}.synaptic_operation")
        product = loihi.corners(f"{section}.multiply_accumulate")
        assert product[1] == pytest.approx(4 * synapse[1])
    assert loihi.corners("energy.multiply_accumulate")[2] == pytest.approx(8 * 39.8e-12)
    # Measured core static power of a chip with 11 cores in use (Lenz 2023) lies in the interval.
    low, _, high = 11 * loihi.corners("power.static")
    assert low < 4.22e-3 < 5.09e-3 < high


@pytest.mark.parametrize("name", ["loihi1", "loihi1-fitted", "loihi2", "loihi2-gated-whatif"])
def test_values_are_inside_their_intervals(name: str) -> None:
    for key, entry in load_profile(name).entries().items():
        if entry.low < entry.high and not key.startswith("limits."):
            assert entry.low < entry.value < entry.high, key


@pytest.mark.parametrize(
    ("entry", "low", "high"),
    [
        ("energy.neuron_update_active", 64.064e-12, 81.536e-12),
        ("energy.spike_message", 1.7e-12, 201.936e-12),
        ("energy.cpu_operation", 0.9e-9, 8.6e-9),
        ("time.spike_message", 2.1e-9, 63.875e-9),
        ("time.barrier_multi_chip", 0.465e-6, 14.3e-6),
    ],
)
def test_values_between_disagreeing_figures_are_geometric_means(entry: str, low: float, high: float) -> None:
    ends = np.array([low, np.sqrt(low * high), high])
    np.testing.assert_allclose(load_profile("loihi1").corners(entry), ends, rtol=0.01)


def test_the_low_end_of_a_synaptic_operation_is_what_was_measured() -> None:
    """Frady 2020: 1.33 mJ for at most 5.76e7 synaptic operations and 4.608e6 neuron updates."""
    loihi = load_profile("loihi1")
    left = 1.33e-3 - 4.608e6 * loihi.corners("energy.neuron_update_inactive")[1]
    assert loihi.corners("energy.synaptic_operation")[0] == pytest.approx(left / 5.76e7, rel=0.005)


def test_static_power_is_not_counted_twice() -> None:
    odin = load_profile("odin")
    all_in = odin.corners("power.static")[1] * odin.corners("time.synaptic_operation")[1]
    all_in += odin.corners("energy.synaptic_operation")[1]
    assert all_in == pytest.approx(12.7e-12, rel=0.01)  # the figure of its title, at the highest rate
    for name in ("truenorth", "cpu", "gpu", "spinnaker1"):
        assert "contain" in str(load_profile(name).reason("power.static"))


def test_the_fitted_set_has_the_errors_that_its_authors_claim() -> None:
    fitted, simulated = load_profile("loihi1-fitted"), load_profile("loihi1")
    own = [entry for entry in fitted.entries() if entry not in fitted.inherited]
    for name in own:
        if name.startswith(("energy.", "time.")) and name != "time.barrier":
            low, value, high = fitted.corners(name)
            error = 0.12 if name.startswith("energy") else 0.25
            assert low <= value * (1 - error) * 1.001 and high >= value * (1 + error) * 0.999
    for name in ("synaptic_operation", "neuron_update_active", "neuron_update_inactive", "spike_message"):
        low, _, high = simulated.corners(f"energy.{name}")
        assert low <= fitted.corners(f"energy.{name}")[1] <= high, "loihi1's interval has the fitted value"
    assert fitted.entry("power.management") == simulated.entry("power.management")


def test_a_what_if_says_so() -> None:
    chip, gated = load_profile("loihi2"), load_profile("loihi2-gated-whatif")
    own = {name: entry for name, entry in gated.entries().items() if name not in gated.inherited}
    own["capabilities.core_gating"] = gated.capabilities["core_gating"]
    assert set(own) == {
        "energy.gate_message",
        "time.gate_message",
        "time.wake",
        "power.static_gated",
        "capabilities.core_gating",
    }
    assert all(entry.basis == "assumed" and entry.note.startswith("What if") for entry in own.values())
    assert gated.title.startswith("What if") and "what-if" in gated.notes[0]
    assert chip.capability("core_gating") == "no" and gated.capability("core_gating") == "power"
    low, value, high = gated.corners("power.static_gated")
    assert (
        low == 0 and high == chip.corners("power.static")[2] and 2 * value == chip.corners("power.static")[1]
    )


def test_where_nothing_can_be_placed_the_limits_are_unavailable() -> None:
    reasons = {name: load_profile(name).reason("limits") for name in list_profiles()}
    placed = {"loihi1", "loihi1-fitted", "loihi2", "loihi2-gated-whatif", "spinnaker1", "spinnaker2"}
    assert {name for name, reason in reasons.items() if reason is None} == placed
    assert "256 x 256" in str(reasons["truenorth"]) and load_profile("truenorth").limit("fan_in") == 256
    for name in placed:
        profile = load_profile(name)
        if profile.reason("limits.tiles_x") is None:
            cores = profile.limit("tiles_x") * profile.limit("tiles_y") * profile.limit("cores_per_tile")
            assert cores >= profile.limit("cores_per_chip")


def test_time_and_energy_of_the_processor_agree_with_its_measured_power() -> None:
    for name in ("loihi1", "loihi2"):
        profile = load_profile(name)
        energy, time = profile.corners("energy.cpu_operation"), profile.corners("time.cpu_operation")
        power = load_profile("loihi1").corners("power.management")
        assert time[1] == pytest.approx(energy[1] / power[1], rel=0.01)
        assert time[2] == pytest.approx(energy[2] / power[0], rel=0.01)
        assert time[0] == pytest.approx(1 / 400e6)


def test_arithmetic_of_the_catalogue() -> None:
    assert load_profile("loihi1").arithmetic == Arithmetic(
        weight_bits=9, exponents="layer", state_bits=23, graded_spikes=False
    )
    assert load_profile("loihi2").arithmetic == Arithmetic(
        weight_bits=9, exponents="channel", state_bits=24, graded_spikes=True
    )
    assert load_profile("cmos45").arithmetic is None
    for name in ("loihi1", "loihi2"):
        profile = load_profile(name)
        assert ("limits.graded_spike_bits" in profile.entries()) == profile.graded_spikes


def test_arithmetic_that_is_not_told_is_an_error_not_a_default() -> None:
    with pytest.raises(MissingEntry, match=r"mine has no limits\.weight_bits"):
        _ = parse_profile(toml(), "mine.toml").arithmetic
    with pytest.raises(MissingEntry, match=r"mine has no capabilities\.processor"):
        parse_profile(toml(), "mine.toml").capability("processor")


def test_corners_are_in_si_units() -> None:
    profile = parse_profile(toml(), "mine.toml")
    assert profile.corners("energy.synaptic_operation").tolist() == pytest.approx([1e-12, 2e-12, 3e-12])
    assert load_profile("loihi1").limit("synaptic_memory_per_core") == 128 * 1024


def test_a_missing_entry_is_named() -> None:
    profile = parse_profile(toml(), "mine.toml")
    assert "energy.spike_message" in profile.missing()
    with pytest.raises(MissingEntry, match=r"profile mine has no energy\.spike_message") as caught:
        profile.corners("energy.spike_message")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.profile, again.entry, str(again)) == ("mine", "energy.spike_message", str(caught.value))


def test_unavailable_entries_have_their_reason() -> None:
    profile = parse_profile(toml(unavailable={"energy.spike_message": "why", "time": "never"}), "mine.toml")
    assert profile.reason("energy.spike_message") == "why"
    assert profile.reason("time.barrier") == "never"
    assert profile.reason("energy.score_lookup") is None
    assert not {"energy.spike_message", "time.barrier"} & set(profile.missing())
    with pytest.raises(MissingEntry):
        profile.entry("time.barrier")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 2}, "schema_version is 2"),
        ({"colour": "red"}, "colour"),
        ({"graded_spikes": "no"}, "graded_spikes"),
        ({"step_law": "mean"}, "step_law"),
        ({"energy": {"synop": ENTRY}}, "energy.synop: no such entry"),
        (
            {"energy": {"synaptic_operation": ENTRY | {"unit": "ns"}}},
            "energy.synaptic_operation: unit is 'ns'",
        ),
        ({"energy": {"synaptic_operation": ENTRY | {"low": 2.5}}}, "low, value, high are (2.5, 2.0, 3.0)"),
        ({"energy": {"synaptic_operation": ENTRY | {"low": -1.0}}}, "negative"),
        ({"energy": {"synaptic_operation": ENTRY | {"basis": "guessed"}}}, "basis"),
        ({"energy": {"synaptic_operation": ENTRY | {"source": "you"}}}, "source 'you'"),
        ({"energy": {"synaptic_operation": ENTRY | {"interval": ""}}}, "interval is empty"),
        ({"energy": {"synaptic_operation": ENTRY | {"basis": "assumed"}}}, "note is empty"),
        ({"energy": {"synaptic_operation": {"value": 1.0}}}, "energy.synaptic_operation.low"),
        ({"unavailable": {"energy.synops": "why"}}, "unavailable.energy.synops: no such entry"),
        ({"unavailable": {"time": ""}}, "unavailable.time: no reason"),
        ({"unavailable": {"energy.synaptic_operation": "why"}}, "the profile has this entry, too"),
        ({"unavailable": {"energy": "why"}}, "the profile has this entry, too"),
        ({"power": {"static": ENTRY | {"unit": "W"}}}, "static_scope is missing"),
        (
            {"limits": {"tiles_x": ENTRY | {"value": 0, "low": 0, "high": 0, "unit": "1"}}},
            "limits.tiles_x: value is 0 1; use at least 1",
        ),
        ({"capabilities": {"speed": WORD}}, "capabilities.speed: no such entry"),
        ({"capabilities": {"processor": WORD | {"value": "two"}}}, "capabilities.processor: value is 'two'"),
        ({"capabilities": {"processor": WORD | {"source": "you"}}}, "source 'you'"),
        ({"capabilities": {"processor": WORD | {"basis": "assumed"}}}, "note is empty"),
        (
            {"capabilities": {"processor": WORD}, "unavailable": {"capabilities": "why"}},
            "unavailable.capabilities: the profile has this entry, too",
        ),
    ],
)
def test_wrong_profiles_are_refused_by_file_and_field(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        parse_profile(toml(**changes), "mine.toml")
    assert str(caught.value).startswith("mine.toml: ")
    assert "\n" not in str(caught.value)


def test_a_profile_without_time_law_must_say_so() -> None:
    text = toml().replace(b'step_law = "sum"\n', b"")
    with pytest.raises(InputError, match="step_law is missing"):
        parse_profile(text, "mine.toml")


def test_profiles_are_found_by_name_or_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(toml())
    assert load_profile(path) == load_profile(str(path))
    with pytest.raises(InputError, match=r"loihi3.*cmos45, .*loihi1, .*loihi2"):
        load_profile("loihi3")
    with pytest.raises(InputError, match="No such file"):
        load_profile(tmp_path / "none.toml")
    path.write_text("name = ")
    with pytest.raises(InputError, match=r"mine\.toml"):
        load_profile(path)


def test_the_docs_name_every_entry_field_and_unit() -> None:
    text = DOCS.read_text()
    names = {
        name
        for cell in re.findall(r"^\| (.+?) \|", text, flags=re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", cell)
    }
    for entry in ENTRIES:
        assert entry in names or re.sub("^(energy|time)", "X", entry) in names, entry
    for name in names:
        if re.match(r"(X|energy|time|power|limits|capabilities)\.", name):
            assert name.replace("X.", "energy.") in ENTRIES, name
    assert {field.name for field in (*fields(Entry), *fields(Capability))} <= names
    for entry, words in CAPABILITIES.items():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `capabilities.{entry}`")]
        assert all(f"`{word}`" in row for word in words), entry
    assert all(f"{field.name}" in text for field in fields(Arithmetic))
    sections = {*UNITS, "capabilities", "unavailable", "sources", "inherited"}
    assert {field.name for field in fields(Profile)} - sections <= names
    example, extending = re.findall(r"```toml\n(.*?)```", text, flags=re.DOTALL)
    assert parse_profile(extending.encode(), "example").entry("energy.synaptic_operation").value == 27.5
    assert parse_profile(example.encode(), "example").entry("energy.synaptic_operation").value == 8.43
    for section, units in UNITS.items():
        assert f"{section}: {' '.join(units)}" in text
