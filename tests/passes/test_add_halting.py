"""Halting added to networks without: the graph of a model that was built with it, and no change by itself."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ir_random import Recipe, build, images_for, recipes
from support.random_models import random_config, random_model

from stas_neuro.errors import InputError
from stas_neuro.exporters.lava.run import run_lava
from stas_neuro.exporters.lava.stock.lower import lower_stock
from stas_neuro.frontend.torch_model import lower
from stas_neuro.ir import POLICIES, HaltingScore, HaltMode, IRError, Phase
from stas_neuro.models.config import BACKBONES
from stas_neuro.passes import AddHalting, FoldBatchNorm, Quantise
from stas_neuro.reference import run_reference
from stas_neuro.scopes import block_of

NEVER: dict[str, float] = {"alpha": 0.0, "beta": -1000.0, "epsilon": 0.0, "margin": 1e9}
"""Scores of 0, and a margin that no logits have."""


@pytest.mark.parametrize("mode", POLICIES)
@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("attention", ("ssa", "sdsa"))
@pytest.mark.parametrize("fold", (False, True))
@pytest.mark.parametrize(("most", "together"), [(0, 0), (6, 2)])
def test_it_is_the_graph_of_a_model_with_halting(
    mode: HaltMode, backbone: str, attention: str, fold: bool, most: int, together: int
) -> None:
    together = 0 if POLICIES[mode].by_image else together
    config = random_config(
        {"backbone": backbone, "attention": attention, "accumulate": "off", "readout": "rate"}, 3
    ).replace(depth=3, max_visits=most, token_groups=together)
    without = random_model(config, 3)
    halting = random_model(config.replace(accumulate=mode), 3)
    options = {name: getattr(config, name) for name in ("alpha", "beta", "epsilon", "margin")}
    graphs = [lower(without), lower(halting)]
    if fold:
        graphs = list(map(FoldBatchNorm(), graphs))
    added = AddHalting(mode=mode, max_visits=most or None, token_groups=together or None, **options)
    assert added(graphs[0]) == graphs[1]
    scores = graphs[1].of_type(HaltingScore)
    assert all(bool(score.groups) == bool(together) for score in scores)


@settings(max_examples=60)
@given(recipe=recipes(halting="off", head="tokens", shrink="no"), mode=st.sampled_from(tuple(POLICIES)))
def test_what_never_halts_changes_no_bit(recipe: Recipe, mode: HaltMode) -> None:
    recipe = dataclasses.replace(recipe, classes=max(2, recipe.classes))
    graph = build(recipe)
    halting = AddHalting(mode=mode, **NEVER)(graph)
    images = images_for(graph, 3, recipe.seed)
    before, after = (run_reference(each, images, record_spikes=True) for each in (graph, halting))
    assert before.logits.tobytes() == after.logits.tobytes()
    assert after.visits.all()
    for name, spikes in before.spikes.items():
        np.testing.assert_array_equal(after.spikes[name], spikes)


@pytest.mark.parametrize("mode", POLICIES)
@pytest.mark.parametrize("fixed", (False, True))
@pytest.mark.parametrize(("membrane", "most"), [(False, None), (True, None), (False, 4)])
def test_what_halts_runs_alike_on_lava(mode: HaltMode, fixed: bool, membrane: bool, most: int | None) -> None:
    graph = build(Recipe(norm=False, halting="off", height=6, seed=1, blocks=3, membrane=membrane))
    halting = AddHalting(mode=mode, alpha=1.0, beta=-3.0, epsilon=0.3, margin=4.0, max_visits=most)(graph)
    images: Any = images_for(graph, 3)
    if fixed:
        halting = Quantise()(halting)
        images = np.random.default_rng(0).integers(0, 256, images.shape)
    ours, theirs = run_reference(halting, images), run_lava(halting, images)
    assert most is None or ours.visits.sum(axis=(1, 2)).max() <= most
    np.testing.assert_allclose(ours.logits, theirs.logits, rtol=0, atol=0 if fixed else 1e-9)
    np.testing.assert_array_equal(ours.visits, theirs.visits)
    assert ours.activity == theirs.activity
    assert not ours.visits.all()


TOKENWISE = tuple(mode for mode in POLICIES if not POLICIES[mode].by_image)


@settings(max_examples=40)
@given(
    recipe=recipes(halting="off", head="mean", shrink="no"),
    head=st.sampled_from(("mean", "mean-first")),
    mode=st.sampled_from(TOKENWISE),
)
def test_behind_a_mean_over_tokens_too_nothing_changes_unless_it_halts(
    recipe: Recipe, head: str, mode: HaltMode
) -> None:
    graph = build(dataclasses.replace(recipe, head=head))
    halting = AddHalting(mode=mode, **NEVER)(graph)
    images = images_for(graph, 3, recipe.seed)
    before, after = (run_reference(each, images, record_spikes=True) for each in (graph, halting))
    assert before.logits.tobytes() == after.logits.tobytes()
    assert after.visits.all() and after.visits.shape[-1] == halting.tokens
    for name, spikes in before.spikes.items():
        np.testing.assert_array_equal(after.spikes[name], spikes)


@pytest.mark.parametrize("mode", TOKENWISE)
@pytest.mark.parametrize("fixed", (False, True))
@pytest.mark.parametrize(("head", "membrane"), [("mean", False), ("mean", True), ("mean-first", False)])
def test_what_halts_before_a_mean_runs_alike_on_lava(
    mode: HaltMode, fixed: bool, head: str, membrane: bool
) -> None:
    graph = build(Recipe(norm=False, halting="off", head=head, membrane=membrane, seed=1, blocks=2))
    if not membrane:  # importers give what follows a block its scope
        necks = {node.name for node in graph.nodes if node.name.startswith("neck.")}
        nodes = (dataclasses.replace(n, scope="block1") if n.name in necks else n for n in graph.nodes)
        graph = dataclasses.replace(graph, nodes=tuple(nodes))
    halting = AddHalting(mode=mode, alpha=1.0, beta=0.0, epsilon=0.5)(graph)
    assert ("alive" in halting.inputs("neck.lif")) is False
    # Scores come from the stream, and the readout is what it was.
    score = halting.inputs("halting.1.score")["z"]
    assert score.src == "blocks.1.add1" and halting.readout == graph.readout
    images: Any = images_for(graph, 3)
    if fixed:
        halting = Quantise()(halting)
        images = np.random.default_rng(0).integers(0, 256, images.shape)
    ours, theirs = run_reference(halting, images), run_lava(halting, images)
    np.testing.assert_allclose(ours.logits, theirs.logits, rtol=0, atol=0 if fixed else 1e-9)
    np.testing.assert_array_equal(ours.visits, theirs.visits)
    assert ours.activity == theirs.activity
    assert not ours.visits.all()


def test_last_state_is_kept_and_every_other_readout_becomes_rate() -> None:
    for readout, kept in (("mean-field", "rate"), ("rate", "rate"), ("last-state", "last-state")):
        graph = build(Recipe(halting="off", readout=readout))
        assert AddHalting(mode="time")(graph).readout.mode == kept


def test_stock_processes_refuse_halting_by_image() -> None:
    graph = AddHalting(mode="image")(build(Recipe(norm=False, halting="off")))
    with pytest.raises(IRError, match=r"halting\.1\.score: it needs the sums of all classes"):
        lower_stock(Quantise()(graph))


@pytest.mark.parametrize("mode", POLICIES)
def test_what_a_block_computes_once_is_computed_in_the_steps_that_visit(mode: HaltMode) -> None:
    graph = build(Recipe(norm=False, halting="off", stem="late-mean", blocks=2))
    once = {"blocks.0.q", "blocks.0.k", "blocks.0.v"}
    nodes = [
        dataclasses.replace(node, phase=Phase.ONCE) if node.name in once else node for node in graph.nodes
    ]
    early = AddHalting(mode=mode)(dataclasses.replace(graph, nodes=tuple(nodes)))
    if early.inputs("blocks.0.q").keys() == {"x"}:  # the first block has no mask: it may stay as it is
        assert {node.name for node in early.nodes if node.phase == Phase.ONCE} >= once
    else:
        assert early == AddHalting(mode=mode)(graph)
    images = images_for(graph, 3)
    wanted, found = (run_reference(each, images).logits for each in (AddHalting(mode=mode)(graph), early))
    assert np.array_equal(wanted, found)


def refusal(graph: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        AddHalting(**{"mode": "time", **options})(graph)
    return str(caught.value)


def test_refusals() -> None:
    graph = build(Recipe(norm=False, halting="off"))
    assert "there is no halting policy 'often'; use one of raster" in refusal(graph, mode="often")
    assert "the network halts already (block)" in refusal(build(Recipe(halting="block")))
    assert "add halting to the folded graph" in refusal(Quantise()(graph))
    elsewhere = tuple(
        dataclasses.replace(node, scope="trunk") if block_of(node.scope) == 1 else node
        for node in graph.nodes
    )
    assert "no node has the scope block1" in refusal(dataclasses.replace(graph, nodes=elsewhere))
    moved = tuple(
        dataclasses.replace(node, scope="trunk") if node.name == "blocks.1.q_lif" else node
        for node in graph.nodes
    )
    said = refusal(dataclasses.replace(graph, nodes=moved))
    assert re.search(r"block1 takes blocks.0.add1:y, blocks.1.q_lif:s from outside", said)
    mapped = tuple(
        dataclasses.replace(node, scope="block0") if node.name == "stem.conv1" else node
        for node in graph.nodes
    )
    assert "stem.conv1 of block0 gives maps" in refusal(dataclasses.replace(graph, nodes=mapped))
    behind_mean = build(Recipe(halting="off", head="mean"))
    assert "reads a mean over tokens, and image halting weighs the tokens" in refusal(
        behind_mean, mode="image"
    )
    assert "and readout rate halting weighs" in refusal(behind_mean, readout="rate")
    fewer = build(Recipe(halting="off", shrink="pool", blocks=1, width=9))
    moved = tuple(
        dataclasses.replace(node, scope="block0") if node.name.startswith("shrink") else node
        for node in fewer.nodes
    )
    assert refusal(dataclasses.replace(fewer, nodes=moved))


def test_groups_that_do_not_fit_are_refused() -> None:
    graph = build(Recipe(norm=False, halting="off", height=6, blocks=2))
    tokens = AddHalting(mode="raster")(graph).tokens
    for count in (0, tokens + 1):
        with pytest.raises(InputError, match=f"token-groups is {count}, and there are {tokens} tokens"):
            AddHalting(mode="raster", token_groups=count)(graph)
    with pytest.raises(InputError, match="image halting halts all tokens together"):
        AddHalting(mode="image", token_groups=2)(graph)
    # As many groups as tokens: each halts alone, by the same graph.
    assert AddHalting(mode="raster", token_groups=tokens)(graph) == AddHalting(mode="raster")(graph)
    halved = AddHalting(mode="raster", alpha=1.0, token_groups=2)(graph).of_type(HaltingScore)[0]
    assert halved.groups == (0,) * -(-tokens // 2) + (1,) * (tokens // 2)
    assert halved.alpha == 1.0 / -(-tokens // 2)
    with pytest.raises(InputError, match="max-visits is 2, and a token makes at least 3 visits"):
        AddHalting(mode="block", max_visits=2)(graph)
