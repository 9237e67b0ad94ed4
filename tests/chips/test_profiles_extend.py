from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from stas_neuro.chips import Profile, load_profile
from stas_neuro.chips.entries import CAPABILITIES, ENTRIES, UNITS
from stas_neuro.chips.inheritance import inherit
from stas_neuro.errors import InputError

HEAD = 'schema_version = 1\nname = "{name}"\ntitle = "T"\nextends = "{parent}"\n'
ENTRY = """
[{entry}]
value = {value}
low = {value}
high = {value}
unit = "{unit}"
basis = "measured"
source = "me"
[sources.me]
citation = "me"
"""


def child(tmp_path: Path, name: str, parent: str, text: str = "") -> Path:
    path = tmp_path / f"{name}.toml"
    path.write_text(HEAD.format(name=name, parent=parent) + text)
    return path


def given_by(profile: Profile) -> set[str]:
    return set(profile.entries()) | {f"capabilities.{name}" for name in profile.capabilities}


def test_everything_is_inherited(tmp_path: Path) -> None:
    above, mine = load_profile("loihi1"), load_profile(child(tmp_path, "mine", "loihi1"))
    assert mine.entries() == above.entries() and mine.capabilities == above.capabilities
    assert mine.unavailable == above.unavailable and mine.sources == above.sources
    assert (mine.notes, mine.step_law, mine.static_scope) == (above.notes, above.step_law, above.static_scope)
    assert mine.name == "mine" and mine.extends == "loihi1" and mine.missing() == []
    assert set(mine.inherited) == given_by(above) | set(above.unavailable)
    assert set(mine.inherited.values()) == {"loihi1"}
    assert above.extends == "" and not above.inherited


def test_what_the_file_says_itself_holds(tmp_path: Path) -> None:
    text = (
        'notes = ["mine"]\n'
        + ENTRY.format(entry="energy.chip_crossing", value=7.0, unit="pJ")
        + '[unavailable]\n"energy.spike_message" = "unknown here"\npower = "no meter"\n'
        + '[capabilities]\ncore_gating = {value = "core", basis = "measured", source = "me"}\n'
    )
    mine, above = load_profile(child(tmp_path, "mine", "loihi1", text)), load_profile("loihi1")
    assert mine.entry("energy.chip_crossing").value == 7.0
    assert above.reason("energy.chip_crossing") and not mine.reason("energy.chip_crossing")
    assert mine.reason("energy.spike_message") == "unknown here" and mine.reason("power.static") == "no meter"
    assert mine.capability("core_gating") == "core" and above.capability("core_gating") == "no"
    assert mine.notes == ["mine"] and not mine.power
    own = {"energy.chip_crossing", "energy.spike_message", "capabilities.core_gating"}
    assert not own & set(mine.inherited) and not any(name.startswith("power") for name in mine.inherited)
    assert mine.missing() == []


def test_an_entry_of_a_section_without_numbers_leaves_the_others_unavailable(tmp_path: Path) -> None:
    text = 'step_law = "sum"\n' + ENTRY.format(entry="time.barrier", value=2.0, unit="us")
    mine = load_profile(child(tmp_path, "mine", "cmos45", text))
    assert mine.entry("time.barrier").value == 2.0 and mine.reason("time.barrier") is None
    assert mine.reason("time.hop_x") == "an operation count has no time"
    assert mine.inherited["time.hop_x"] == "cmos45" and mine.missing() == []


def test_a_chain_tells_whose_each_entry_is(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    child(tmp_path, "middle", "loihi2", ENTRY.format(entry="energy.hop_x", value=2.0, unit="pJ"))
    lowest = child(tmp_path / "deeper", "lowest", "../middle.toml")
    profile = load_profile(lowest)
    assert profile.entry("energy.hop_x").value == 2.0 and profile.inherited["energy.hop_x"] == "middle"
    assert profile.inherited["energy.hop_y"] == "loihi2" and profile.inherited["time.wake"] == "loihi2"


def test_circles_and_unknown_parents_name_the_chain(tmp_path: Path) -> None:
    first, second = child(tmp_path, "a", "b.toml"), child(tmp_path, "b", "a.toml")
    with pytest.raises(InputError, match="a cycle") as caught:
        load_profile(first)
    assert str(caught.value).startswith(f"{first} extends {second} extends {first}: a cycle")
    itself = child(tmp_path, "c", "./c.toml")
    with pytest.raises(InputError, match=r"c\.toml extends \S*c\.toml: a cycle"):
        load_profile(itself)
    orphan = child(tmp_path, "d", "e.toml")
    child(tmp_path, "e", "loihi9")
    with pytest.raises(InputError, match=r"d\.toml extends \S*e\.toml extends loihi9: there is no profile"):
        load_profile(orphan)
    with pytest.raises(InputError, match=r"g\.toml extends none\.toml: \S*none\.toml: No such file"):
        load_profile(child(tmp_path, "g", "none.toml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("energy = 3\n", "mine.toml: energy is not a table"),
        ("sources = 3\n", "mine.toml: sources is not a table"),
        ('[inherited]\n"energy.hop_x" = "loihi1"\n', "inherited is not allowed in files"),
        (
            '[sources.davies2018]\ncitation = "else"\n',
            "sources.davies2018 has a different citation in loihi1",
        ),
        ('[unavailable]\n"energy.hops" = "why"\n', "unavailable.energy.hops: no such entry"),
        ("[energy]\nhop_x = {value = 1.0}\n", "energy.hop_x.low"),
    ],
)
def test_what_cannot_be_inherited_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_profile(child(tmp_path, "mine", "loihi1", text))
    assert message in str(caught.value) and "mine.toml" in str(caught.value)


def test_a_parent_that_is_wrong_is_named(tmp_path: Path) -> None:
    child(tmp_path, "above", "loihi1", "[energy]\nhop_x = {value = 1.0}\n")
    with pytest.raises(InputError, match=r"^\S*above\.toml: energy\.hop_x"):
        load_profile(child(tmp_path, "mine", "above.toml"))


NAMES = sorted(ENTRIES)
STATES = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["given", "unavailable"]), max_size=12)


@given(parent=STATES, own=STATES, whole=st.sampled_from([None, *UNITS, "capabilities"]))
def test_each_entry_is_what_the_nearest_says_of_it(
    parent: dict[str, str], own: dict[str, str], whole: str | None
) -> None:
    if whole is not None:
        parent = {name: state for name, state in parent.items() if not name.startswith(f"{whole}.")}
    above = _document("above", parent)
    if whole is not None:
        above["unavailable"][whole] = "above"
    merged = inherit(_document("own", own), above, "own.toml")
    profile = TypeAdapter(Profile).validate_json(json.dumps(merged), strict=True)
    for name in NAMES:
        says = own.get(name) or parent.get(name)
        if says is None and name.split(".")[0] == whole:
            says = "unavailable"
        whose = "own" if name in own else "above"
        assert (name in given_by(profile)) == (says == "given")
        assert profile.reason(name) == (whose if says == "unavailable" else None)
        if name in profile.inherited:
            assert whose == "above" == profile.inherited[name]


def _document(who: str, states: dict[str, str]) -> dict[str, Any]:
    document: dict[str, Any] = {"schema_version": 1, "name": who, "title": who, "graded_spikes": True}
    document |= {
        "step_law": "sum",
        "static_scope": "chip",
        "unavailable": {},
        "sources": {"me": {"citation": "me"}},
    }
    for name, state in states.items():
        section, key = name.split(".")
        if state == "unavailable":
            document["unavailable"][name] = who
        elif section == "capabilities":
            word = {"value": CAPABILITIES[key][0], "basis": "measured", "source": "me"}
            document.setdefault(section, {})[key] = word
        else:
            number = {"value": 1.0, "low": 1.0, "high": 1.0, "unit": next(iter(UNITS[section]))}
            document.setdefault(section, {})[key] = number | {"basis": "measured", "source": "me"}
    return document
