"""Halting policies: a table that forgets one fails, and what the data says is what graphs must be."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from support.ir_random import HALTING
from support.paths import ROOT

from stas_neuro.exporters.lava import policies as on_lava
from stas_neuro.ir import POLICIES, HaltMode, per_policy
from stas_neuro.ir.policies import Link
from stas_neuro.models.config import ACCUMULATIONS, BACKBONES, per_backbone


def test_a_table_without_a_policy_names_it() -> None:
    rules: dict[str, int] = dict.fromkeys(POLICIES, 0)
    assert per_policy("weights", rules) == rules
    del rules["block"]
    with pytest.raises(TypeError, match="weights: block needs one rule"):
        per_policy("weights", rules)
    assert "block" not in per_policy("weights", rules, without=["block"])
    with pytest.raises(TypeError, match="weights: raster needs one rule"):
        per_policy("weights", rules, without=["block", "raster"])
    with pytest.raises(TypeError, match="weights: sometimes needs one rule"):
        per_policy("weights", {**dict.fromkeys(POLICIES, 0), "sometimes": 0})


def test_a_table_without_a_backbone_names_it() -> None:
    rules: dict[str, int] = dict.fromkeys(BACKBONES, 0)
    assert per_backbone("layers", rules) == rules
    for odd in ({}, {**rules, "resnet": 0}):
        with pytest.raises(TypeError, match=r"layers: .* needs a rule"):
            per_backbone("layers", odd)


def test_every_policy_is_known_everywhere() -> None:
    assert tuple(POLICIES) == get_args(HaltMode)
    assert set(ACCUMULATIONS) == set(HALTING) == {*POLICIES, "off"}
    assert on_lava.POLICIES.keys() == POLICIES.keys()


def test_the_documents_name_every_policy_and_backbone() -> None:
    method = (ROOT / "docs" / "method.md").read_text()
    assert not [name for name in POLICIES if not re.search(rf"`(--accumulate )?{name}`", method)]
    assert not [name for name in BACKBONES if not re.search(name, method, re.I)]
    table = (ROOT / "docs" / "adr" / "0002-ir.md").read_text()
    assert not [name for name in POLICIES if f"\n| {name} |" not in table]


@pytest.mark.parametrize(
    ("mode", "masks"),
    [
        ("raster", [Link(2, 1), Link(0, 0), Link(1, 0)]),
        ("rectangular", [None, Link(0, 0), Link(1, 0)]),
        ("block", [None, Link(0, 0), Link(1, 0)]),
        ("time", [Link(0, 1)] * 3),
        ("image", [Link(0, 1)] * 3),
    ],
)
def test_decisions_are_handed_on(mode: str, masks: list[Link | None]) -> None:
    policy = POLICIES[mode]
    assert [policy.mask_of(block, 3) for block in range(3)] == masks
    assert len(policy.scored_blocks(3)) == policy.accumulators(3) == (1 if mode in ("time", "image") else 3)


@pytest.mark.parametrize(
    ("mode", "most"),
    [("raster", 64), ("time", 64), ("block", 256), ("rectangular", 4 * 50), ("image", 4 * 50)],
)
def test_weights_of_a_token_are_bounded(mode: str, most: int) -> None:
    assert POLICIES[mode].largest_weight(64, [20, 30], 4) == most
