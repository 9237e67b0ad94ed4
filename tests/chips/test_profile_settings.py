"""Numbers with units, values that the user sets, all faults at once, and profiles to start from."""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.energy_runs import run as energy_run

from stas_neuro.chips import BadProfile, load_profile, load_profiles, settings_of, values_set, with_values
from stas_neuro.chips.catalogue import list_profiles, parse_profile
from stas_neuro.chips.entries import ENTRIES
from stas_neuro.chips.quantities import parse_quantity
from stas_neuro.chips.settings import ON_COMMAND_LINE, parse_settings
from stas_neuro.chips.template import new_profile
from stas_neuro.energy import compare, estimate
from stas_neuro.errors import InputError

SYNAPSE = "energy.synaptic_operation"
HEAD = b'schema_version = 1\nname = "x"\ntitle = "x"\ngraded_spikes = false\nstep_law = "sum"\n'
SOURCE = b'[sources.me]\ncitation = "me"\n'


def entry(name: str, **changes: Any) -> bytes:
    given = {"value": "20 pJ", "low": "18 pJ", "high": "25 pJ", "interval": "so", "basis": "measured"}
    given |= {"source": "me"} | changes
    lines = [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in given.items())]
    return "\n".join([*lines, ""]).encode()


@pytest.mark.parametrize(
    ("text", "name", "number", "unit"),
    [
        ("20pJ", SYNAPSE, 20.0, "pJ"),
        ("23.6 pJ", SYNAPSE, 23.6, "pJ"),
        ("0.1 nJ", SYNAPSE, 0.1, "nJ"),
        ("1.5e-12 J", SYNAPSE, 1.5e-12, "J"),
        ("20 aJ", SYNAPSE, 2e-17, "J"),
        ("3 µs", "time.barrier", 3e-6, "s"),
        ("3us", "time.barrier", 3.0, "us"),
        ("1.2 mW", "power.static", 1.2, "mW"),
        ("128 KiB", "limits.synaptic_memory_per_core", 128.0, "KiB"),
        ("128 kB", "limits.synaptic_memory_per_core", 128000.0, "B"),
        ("1024", "limits.neurons_per_core", 1024.0, "1"),
        ("8 bit", "limits.weight_bits", 8.0, "bit"),
    ],
)
def test_a_number_has_the_unit_that_is_written(text: str, name: str, number: float, unit: str) -> None:
    assert parse_quantity(text, name) == (number, unit)


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("20 ns", SYNAPSE, "in s (time); write energy in J, such as 20 pJ"),
        ("20", SYNAPSE, "without a unit; write energy in J"),
        ("20 pj", SYNAPSE, "in j; write energy in J"),
        ("3 GHz", "time.barrier", "in Hz (frequency); write time in s"),
        ("3 J/s", "power.static", "in J/s; write power in W"),
        ("128 kbit", "limits.synaptic_memory_per_core", "in bit (bits); write memory in B"),
        ("8 B", "limits.weight_bits", "in B (memory); write bits in bit"),
        ("12 J", "limits.fan_in", "in J (energy); write a number without a unit"),
        ("much", SYNAPSE, "is 'much', not a number with a unit"),
        ("", SYNAPSE, "is '', not a number with a unit"),
        ("x" * 10**6, SYNAPSE, "not a number with a unit"),
        ("energy = 20 pJ", SYNAPSE, "in J (energy); write"),
        ("inf J", SYNAPSE, "is inf"),
        ("nan J", SYNAPSE, "is nan"),
    ],
)
def test_a_number_of_another_quantity_is_refused(text: str, name: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        parse_quantity(text, name)


def test_files_may_write_numbers_with_units() -> None:
    barrier = entry("time.barrier", value=2, low=1, high="3 us", unit="us")
    text = HEAD + entry(SYNAPSE, value="0.02 nJ") + barrier
    profile = parse_profile(text + SOURCE, "x.toml")
    found = profile.entry(SYNAPSE)
    assert (found.value, found.low, found.high, found.unit) == (0.02, 0.018, 0.025, "nJ")
    assert profile.corners("time.barrier").tolist() == pytest.approx([1e-6, 2e-6, 3e-6])
    with pytest.raises(InputError, match=r"time\.barrier\.low is 1, without a unit"):
        parse_profile(HEAD + entry("time.barrier", value="2 us", low=1, high="3 us") + SOURCE, "x.toml")


def test_all_faults_of_a_file_are_reported_at_once() -> None:
    text = HEAD.replace(b"false", b'"no"').replace(b'name = "x"', b'nme = "x"')
    text += entry(SYNAPSE, value="20 ns") + entry("energy.hop_x", low="30 pJ") + entry("energy.hopy")
    text += entry("time.barrier", value=-1, low=-1, high=-1, unit="us", basis="guessed")
    text += entry("limits.weight_bits", value=99, low=99, high=99, unit="bit", source="me")
    text += b'[energy.spike_message]\nvalue = 3\n[unavailable]\n"time.wake" = ""\n' + SOURCE
    with pytest.raises(BadProfile) as caught:
        parse_profile(text, "x.toml")
    expected = (
        "energy.synaptic_operation.value is '20 ns', in s (time); write energy in J, such as 20 pJ",
        "graded_spikes is 'no'; it should be a valid boolean",
        "time.barrier.basis is 'guessed'; it should be 'measured'",
        "nme: there is no such key; did you mean name? Use one of schema_version",
        "name is missing; add",
        "energy.spike_message.low, energy.spike_message.high, energy.spike_message.unit",
        "energy.hop_x: low, value, high are (30.0, 20.0, 25.0); use low <= value <= high",
        "energy.hopy: no such entry; did you mean energy.hop_y?",
        "limits.weight_bits: high is 99 bit; use at most 64",
        "unavailable.time.wake: no reason; state why",
    )
    assert len(caught.value.lines) == len(expected)
    for message in expected:
        assert any(line.startswith(message) for line in caught.value.lines), message
        assert message in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.headline == "x.toml: 10 problems; see docs/profiles.md"
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.lines) == (str(caught.value), caught.value.lines)


def test_a_value_that_is_set_replaces_an_entry_and_its_interval() -> None:
    loihi = load_profile("loihi2")
    profile = load_profile("loihi2", {SYNAPSE: "20pJ"})
    found = profile.entry(SYNAPSE)
    assert (found.value, found.low, found.high, found.unit) == (20.0, 20.0, 20.0, "pJ")
    assert (found.basis, found.source) == ("set", "set by the user")
    assert found.note == "instead of 23.6 pJ (18.9 to 39.8) of loihi2"
    assert profile.notes[0] == f"set by the user: {SYNAPSE} is 20 pJ, {found.note}"
    assert list(values_set(profile)) == [SYNAPSE] and not values_set(loihi)
    others = {name: given for name, given in loihi.entries().items() if name != SYNAPSE}
    assert {name: given for name, given in profile.entries().items() if name != SYNAPSE} == others
    assert load_profile("loihi2", {SYNAPSE: 20}) == profile and load_profile("loihi2", {}) == loihi


def test_ends_of_intervals_words_and_unavailable_entries_can_be_set() -> None:
    values = {
        f"{SYNAPSE}.high": "0.05 nJ",
        "time.barrier": "1 us",
        "time.barrier.high": "2us",
        "time.wake": "3 ns",
        "capabilities.idle_update": "skipped",
        "limits.fan_in": "64",
    }
    profile = with_values(load_profile("loihi2"), values, "here")
    ends = [(found.low, found.value, found.high) for found in map(profile.entry, (SYNAPSE, "time.barrier"))]
    assert ends == [(18.9, 23.6, 50.0), (1.0, 1.0, 2.0)]
    assert profile.reason("time.wake") is None and profile.entry("time.wake").note == "loihi2 has none"
    assert profile.reason("energy.gate_message") == load_profile("loihi2").reason("energy.gate_message")
    assert profile.capability("idle_update") == "skipped" and profile.limit("fan_in") == 64
    assert profile.missing() == []
    again = with_values(load_profile("loihi2"), settings_of(profile), "here")
    assert again == replace(profile, notes=again.notes)
    later = with_values(profile, {SYNAPSE: "21 pJ"}, "later")
    assert later.entry(SYNAPSE).source == "later" and later.entry("time.wake").source == "here"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"energy.synop": "20pJ"}, "energy.synop: there is no such entry"),
        ({"energy.synaptic_operatoin": "20pJ"}, "did you mean energy.synaptic_operation?"),
        ({"synaptic_operation": "20pJ"}, "Name an entry as section.name"),
        ({SYNAPSE: "20 ns"}, "in s (time)"),
        ({SYNAPSE: "-20 pJ"}, "negative"),
        ({SYNAPSE: None}, "is None; give a number"),
        ({SYNAPSE: True}, "is True; give a number"),
        ({3: "20 pJ"}, "3: there is no such entry"),
        ({f"{SYNAPSE}.low": "30 pJ"}, "use low <= value <= high"),
        ({"time.wake.low": "3 ns"}, "loihi2 has no time.wake; set time.wake, too"),
        ({"time.wake": 3}, "is 3, without a unit"),
        ({"capabilities.idle_update": "often"}, "use one of stepped, skipped, unknown"),
        ({"limits.weight_bits": "99 bit"}, "use at most 64"),
    ],
)
def test_wrong_settings_are_refused(values: Any, message: str) -> None:
    with pytest.raises(BadProfile, match=re.escape(message)) as caught:
        with_values(load_profile("loihi2"), values, "here")
    assert str(caught.value).startswith("here: ")


def test_settings_on_the_command_line() -> None:
    assert parse_settings([f"{SYNAPSE} = 20 pJ", "a=b=c"]) == {SYNAPSE: "20 pJ", "a": "b=c"}
    for text in ("energy", "=3pJ", "energy.hop_x=", " = "):
        with pytest.raises(InputError, match="sets nothing; write ENTRY=VALUE"):
            parse_settings([text])


def test_a_price_names_what_was_set() -> None:
    run = energy_run()
    profile = load_profile("loihi2", {SYNAPSE: "20pJ"}, source=ON_COMMAND_LINE)
    cost, before = estimate(run, profile), estimate(run, "loihi2")
    assert "figures set by the user" in cost.disclaimer and cost.figures["set"] == (SYNAPSE,)
    (row,) = [event for event in cost.events if event.event == "synops"]
    (old,) = [event for event in before.events if event.event == "synops"]
    assert (row.basis, row.source) == ("set", ON_COMMAND_LINE)
    assert row.energy_j.low == row.energy_j.high == row.energy_j.value
    assert row.energy_j.value == pytest.approx(old.energy_j.value * 20 / 23.6)
    assert ON_COMMAND_LINE in cost.sources and cost.assumptions != before.assumptions
    saved = compare(run, {"other": energy_run(halting=False)}, [profile])
    assert "figures set by the user" in saved.disclaimer


def test_profiles_are_taken_in_any_form(tmp_path: Path) -> None:
    loihi = load_profile("loihi2")
    path = tmp_path / "mine.toml"
    path.write_text(new_profile("mine", path, "loihi2"))
    assert load_profile(loihi) is loihi
    assert [each.name for each in load_profiles(["loihi1", loihi, path, str(path)])] == [
        "loihi1",
        "loihi2",
        "mine",
        "mine",
    ]
    assert [each.name for each in load_profiles("loihi1")] == ["loihi1"] and load_profiles(loihi) == [loihi]
    assert load_profiles(None) == load_profiles("all") and len(load_profiles("all")) == len(list_profiles())
    for wrong in (3, 2.5, b"loihi2", object(), [3], {"loihi2": None, 3: 4}):
        with pytest.raises(InputError, match=r"give a Profile, the name of one, or the path"):
            load_profiles(wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no profiles"):
        load_profiles([])


@pytest.mark.parametrize("extends", [None, "loihi2", "odin", "cmos45"])
def test_a_new_profile_is_valid_before_and_after_it_is_filled_in(tmp_path: Path, extends: str | None) -> None:
    path = tmp_path / "mine.toml"
    text = new_profile("mine ü😀", path, extends)
    path.write_text(text)
    made = load_profile(path)
    assert made.missing() == [] and made.extends == (extends or "")
    if extends is not None:
        parent = load_profile(extends)
        assert made.entries() == parent.entries() and made.unavailable == parent.unavailable
    # All comments of entries and sources removed, as by someone who fills in everything.
    keys = "value|low|high|basis|source|interval|citation|own"
    filled = re.sub(rf"^# (\[|({keys}) = )", r"\1", text, flags=re.MULTILINE)
    path.write_text(re.sub(r"^\[unavailable\]\n(.+\n)+", "", filled, flags=re.MULTILINE))
    done = load_profile(path)
    given = set(done.entries()) | {f"capabilities.{name}" for name in done.capabilities}
    assert given == set(ENTRIES) and done.missing() == [] and not done.inherited.keys() & given


def test_a_new_profile_extends_a_file_from_where_it_is(tmp_path: Path) -> None:
    above = tmp_path / "above.toml"
    above.write_text(new_profile("above", above, "loihi1"))
    (tmp_path / "sub").mkdir()
    path = tmp_path / "sub" / "mine.toml"
    path.write_text(new_profile("mine", path, str(above)))
    assert load_profile(path).extends == "../above.toml"
    for wrong in ("", "  ", "a\nb"):
        with pytest.raises(InputError, match="name of a profile"):
            new_profile(wrong, path)
