"""The certificate: equal where equality is promised, and every kind of divergence found, named and placed."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.cli_support import CONFIG, make_checkpoint
from support.random_models import random_model

from stas_neuro import api, compiler
from stas_neuro.activity.layers import layers_of
from stas_neuro.bundle import load_bundle, save_bundle
from stas_neuro.data import LabelledImages
from stas_neuro.errors import CheckFailed, InputError
from stas_neuro.ir import LIF, Phase
from stas_neuro.models.config import ACCUMULATIONS
from stas_neuro.trace import Trace
from stas_neuro.verifier import TOLERANCE, Agreement, Divergence, Verification, driver, runs, verify

PROMISED = ["reference, not folded", "torch, masking", "torch, skipping", "Lava, in-process"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("verify") / "checkpoint")


@pytest.fixture(scope="module")
def images() -> LabelledImages:
    pixels = np.random.default_rng(1).integers(0, 256, (5, 1, 8, 8)).astype(np.uint8)
    return LabelledImages(pixels, None, source="noise")


def by_run(result: Verification, dtype: str = "float64") -> dict[str, Agreement]:
    agreements = result.part("float").agreements
    return {agreement.run: agreement for agreement in agreements if agreement.dtype == dtype}


def test_everything_agrees_in_float64_and_is_reported_in_float32(
    checkpoint: Path, images: LabelledImages
) -> None:
    result = verify(checkpoint, images)
    graph = compiler.fold(checkpoint)
    base = api.run(graph, images, record_spikes=True)
    assert not base.visits.all() and base.visits[:, 0, 0].all()  # the model halts, or nothing is tested
    assert list(by_run(result)) == PROMISED
    assert list(by_run(result, "float32")) == [
        "reference",
        "torch, masking",
        "Lava, in-process",
    ]
    assert result.passed and result.images == len(images) and not result.left_out
    result.require()
    for agreement in result.part("float").agreements:
        assert [layer.layer for layer in agreement.layers] == [lif.name for lif in graph.of_type(LIF)]
        assert agreement.spikes_compared == sum(spikes.size for spikes in base.spikes.values())
        assert agreement.visits_compared == base.visits.size
        assert agreement.promised == (agreement.dtype == "float64")
    # A float32 run is a run in float32: its logits differ by more than float64 ever would.
    assert all((each.logit_delta or 0) > TOLERANCE for each in by_run(result, "float32").values())


@pytest.mark.parametrize("accumulate", ACCUMULATIONS)
def test_options_of_a_bundle_hold_for_torch_too(
    accumulate: str, checkpoint: Path, images: LabelledImages, tmp_path: Path
) -> None:
    options = {"accumulate": accumulate, "epsilon": 0.2, "readout": "last-state"}
    save_bundle(
        compiler.fold(checkpoint, **options),  # type: ignore[arg-type]
        tmp_path / "b",
        compiler.provenance(checkpoint, **options),  # type: ignore[arg-type]
    )
    result = verify(load_bundle(tmp_path / "b"), images, limit=2)
    assert result.images == 2
    assert result.passed and not result.left_out
    assert list(by_run(result)) == PROMISED


def test_torch_is_left_out_where_the_checkpoint_is_gone_or_another(
    checkpoint: Path, images: LabelledImages, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    make_checkpoint(elsewhere)
    save_bundle(compiler.fold(elsewhere), tmp_path / "b", compiler.provenance(elsewhere))
    other = make_checkpoint(tmp_path / "other", seed=4)
    elsewhere.rename(tmp_path / "moved")
    result = verify(tmp_path / "b", images, limit=1)
    assert f"{elsewhere / 'config.json'} not found" in result.left_out["torch"]
    assert list(by_run(result)) == ["Lava, in-process"]
    assert result.passed
    given = verify(tmp_path / "b", images, limit=1, model=tmp_path / "moved")
    assert list(by_run(given)) == PROMISED
    with pytest.raises(InputError, match="other is not what was compiled; pass the checkpoint"):
        verify(tmp_path / "b", images, limit=1, model=other)
    make_checkpoint(elsewhere, seed=4)
    assert "is not what was compiled" in verify(tmp_path / "b", images, limit=1).left_out["torch"]


def test_a_graph_or_a_model_can_be_verified_directly(images: LabelledImages) -> None:
    model = random_model(CONFIG, 3)
    graph = compiler.fold(model)
    assert "does not name" in verify(graph, images, limit=1).left_out["torch"]
    assert list(by_run(verify(graph, images, limit=1, model=model))) == PROMISED
    training = model.train()
    assert verify(training, images.images, limit=1).passed
    assert training.training and training.head.weight.dtype == model.head.weight.dtype


def test_lava_is_left_out_where_it_is_missing(
    checkpoint: Path, images: LabelledImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "stas_neuro.exporters.lava.lava_api", None)
    result = verify(checkpoint, images, limit=1)
    assert "pip install" in result.left_out["lava"]
    assert list(by_run(result)) == PROMISED[:-1]


def test_images_that_do_not_fit_are_refused(checkpoint: Path) -> None:
    with pytest.raises(InputError, match=r"2 images of shape \(1, 9, 9\), the model requires \(1, 8, 8\)"):
        verify(checkpoint, np.zeros((2, 1, 9, 9), np.uint8))
    with pytest.raises(InputError, match=r"the images: pixels are int64 in 256\.\.256; scale"):
        verify(checkpoint, np.full((2, 1, 8, 8), 256))
    with pytest.raises(InputError, match=r"the images: float pixels are in 0\.\.255"):
        verify(checkpoint, np.array([0.0, 255.0]).repeat(64).reshape(2, 1, 8, 8))


Change = Callable[[Trace], dict[str, Any]]


@pytest.fixture
def changed_lava(monkeypatch: pytest.MonkeyPatch) -> Callable[[Change, int], None]:
    """Let Lava's trace of one batch of two images differ, as a fault in it would."""
    run = runs.run_lava

    def use(change: Change, batch: int) -> None:
        calls: dict[str, int] = {}

        def changed(graph: Any, images: Any, **options: Any) -> Trace:
            trace = run(graph, images, **options)
            dtype = str(options.get("dtype"))
            calls[dtype] = calls.get(dtype, -1) + 1
            return dataclasses.replace(trace, **change(trace)) if calls[dtype] == batch else trace

        monkeypatch.setattr(runs, "run_lava", changed)
        monkeypatch.setattr(driver, "CHUNK", 2)

    return use


def flipped(*places: tuple[str, tuple[int, ...]]) -> Change:
    def change(trace: Trace) -> dict[str, Any]:
        spikes = {name: array.copy() for name, array in trace.spikes.items()}
        for name, place in places:
            spikes[name][place] ^= 1
        return {"spikes": spikes}

    return change


def test_a_flipped_spike_is_found_and_placed(
    checkpoint: Path, images: LabelledImages, changed_lava: Callable[[Change, int], None]
) -> None:
    changed_lava(
        flipped(
            ("blocks.1.q_lif", (1, 0, 2, 5)),  # a later image than the first one that differs
            ("blocks.0.fc1_lif", (0, 2, 3, 4)),  # a later step
            ("blocks.1.q_lif", (0, 1, 7, 6)),  # a later layer of the step
            ("blocks.0.k_lif", (0, 1, 9, 8)),
        ),
        1,
    )
    result = verify(checkpoint, images)
    assert [(a.run, a.dtype) for a in result.part("float").failures] == [("Lava, in-process", "float64")]
    agreement = result.part("float").failures[0]
    assert agreement.spikes_differing == 4
    differing = {layer.layer: layer.differing for layer in agreement.layers if layer.differing}
    assert differing == {"blocks.0.fc1_lif": 1, "blocks.0.k_lif": 1, "blocks.1.q_lif": 2}
    assert agreement.first == Divergence(
        image=2, layer="blocks.0.k_lif", quantity="spike", step=2, place={"token": 9, "channel": 8}
    )
    with pytest.raises(CheckFailed) as raised:
        result.require()
    told = "over 5 images Lava, in-process float64 differs from reference float64: 4 spikes"
    assert told in str(raised.value)
    assert "first at image 2, layer blocks.0.k_lif, step 2, token 9, channel 8" in str(raised.value)
    document = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert document["passed"] is False
    row = document["parts"][0]["runs"][3]
    assert row["equal"] is False and row["spikes_differing"] == 4
    assert row["first"]["place"] == {"token": 9, "channel": 8}


def test_a_spike_of_the_stem_comes_before_those_of_blocks(
    checkpoint: Path, images: LabelledImages, changed_lava: Callable[[Change, int], None]
) -> None:
    graph = compiler.fold(checkpoint)
    assert graph.node("stem.lif1").phase == Phase.ONCE
    changed_lava(flipped(("blocks.0.q_lif", (0, 0, 0, 0)), ("stem.lif1", (0, 0, 3, 1, 2))), 0)
    first = verify(checkpoint, images).part("float").failures[0].first
    assert first is not None and first.layer == "stem.lif1"
    assert first.place == {"channel": 3, "row": 1, "column": 2}


def base_layer(checkpoint: Path, index: int) -> str:
    """Name of a layer of the activity record."""
    return layers_of(compiler.fold(checkpoint))[index].name


@pytest.mark.parametrize("what", ["visits", "events", "logits", "nan", "inf"])
def test_other_divergences_fail_too(
    what: str, checkpoint: Path, images: LabelledImages, changed_lava: Callable[[Change, int], None]
) -> None:
    def change(trace: Trace) -> dict[str, Any]:
        if what == "visits":
            visits = trace.visits.copy()
            visits[0, 1, 1, :3] ^= True
            return {"visits": visits}
        if what == "logits":
            return {"logits": trace.logits + 10 * TOLERANCE}
        if what in ("nan", "inf"):
            logits = trace.logits.copy()
            logits[1, 0] = float(what)
            return {"logits": logits}
        counts = {kind: array.copy() for kind, array in trace.activity.counts.items()}
        counts["synops"][1, 3, 2] += 1
        return {"counted": dataclasses.replace(trace.activity, counts=counts)}

    changed_lava(change, 0)
    result = verify(checkpoint, images)
    (failed,) = result.part("float").failures
    assert failed.visits_differing == (3 if what == "visits" else 0)
    assert failed.events_differing == (1 if what == "events" else 0)
    if what in ("nan", "inf"):
        assert failed.logit_delta is None  # also after the finite batches that follow
    else:
        assert failed.logit_delta is not None
        assert (failed.logit_delta > TOLERANCE) == (what == "logits")
    image, quantity, step, place = {
        "visits": (0, "visit", 2, {"token": 0}),
        "logits": (0, "logit", 1, {"class": 0}),
    }.get(what, (1, "logit", 1, {"class": 0}))
    accumulator = compiler.fold(checkpoint).accumulators[0].name  # that lets tokens go on to block 1
    layer = accumulator if what == "visits" else "output"
    found = Divergence(image=image, layer=layer, quantity=quantity, step=step, place=place)
    assert failed.first == (None if what == "events" else found)
    if what == "events":
        assert failed.event_layers == (base_layer(checkpoint, 3),)
    assert json.loads(json.dumps(result.to_json(), allow_nan=False))["passed"] is False
    with pytest.raises(CheckFailed, match="not finite" if what in ("nan", "inf") else "logits by"):
        result.require()


def test_logits_that_are_nowhere_finite_are_not_equal(
    checkpoint: Path, images: LabelledImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = api.run

    def broken(network: Any, data: Any, **options: Any) -> Trace:
        trace = run(network, data, **options)
        return dataclasses.replace(trace, logits=np.full_like(trace.logits, np.nan))

    monkeypatch.setattr(api, "run", broken)
    assert len(verify(checkpoint, images, limit=1).part("float").failures) == len(PROMISED)


def test_nothing_compared_is_nothing_certified(
    images: LabelledImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "stas_neuro.exporters.lava.lava_api", None)
    result = verify(compiler.fold(random_model(CONFIG, 3)), images, limit=1)
    assert not result.part("float").failures and not result.passed and result.to_json()["passed"] is False
    with pytest.raises(CheckFailed, match=r"nothing could be compared.*torch: .*lava: .*pass the checkpoint"):
        result.require()


def test_what_was_not_put_to_the_test_is_told(checkpoint: Path, images: LabelledImages) -> None:
    graph = compiler.fold(checkpoint)
    base = api.run(graph, images, record_spikes=True)
    part = verify(checkpoint, images).part("float")
    assert part.spikes_fired == {name: int(spikes.sum()) for name, spikes in base.spikes.items()}
    assert part.visits_skipped == (~base.visits).sum() > 0 and not part.silent_layers
    model = random_model(CONFIG.replace(beta=-50.0), 3)  # no score ever adds up to 1
    with torch.no_grad():
        model.get_parameter("blocks.1.q_bn.weight").zero_()
        model.get_parameter("blocks.1.q_bn.bias").zero_()
    silent = verify(model, images)
    # Without queries attention is silent, too.
    assert silent.passed and silent.part("float").silent_layers == ("blocks.1.q_lif", "blocks.1.attn_lif")
    assert silent.part("float").visits_skipped == 0
    document = silent.to_json()["parts"][0]
    assert document["silent_layers"] == ["blocks.1.q_lif", "blocks.1.attn_lif"]
    assert document["spikes_fired"] == sum(silent.part("float").spikes_fired.values()) > 0
    assert (
        verify(compiler.fold(model, accumulate="off"), images, limit=1).part("float").visits_skipped is None
    )


def test_logits_within_the_tolerance_are_equal(
    checkpoint: Path, images: LabelledImages, changed_lava: Callable[[Change, int], None]
) -> None:
    changed_lava(lambda trace: {"logits": trace.logits + TOLERANCE / 10}, 0)
    result = verify(checkpoint, images)
    assert result.passed and (by_run(result)["Lava, in-process"].logit_delta or 0) > TOLERANCE / 20


def test_a_changed_class_is_counted_but_float32_promises_nothing(
    checkpoint: Path, images: LabelledImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = api.run

    def turned(network: Any, data: Any, **options: Any) -> Trace:
        trace = run(network, data, **options)
        if options.get("dtype") is np.float32:
            return dataclasses.replace(trace, logits=-trace.logits)
        return trace

    monkeypatch.setattr(api, "run", turned)
    result = verify(checkpoint, images)
    assert by_run(result, "float32")["reference"].top1_changes == len(images)
    assert by_run(result, "float32")["torch, masking"].top1_changes == 0
    assert result.passed


def test_progress_counts_images(
    checkpoint: Path, images: LabelledImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "CHUNK", 2)
    told: list[tuple[int, int]] = []
    verify(checkpoint, images, limit=3, progress=lambda done, total: told.append((done, total)))
    assert told == [(2, 3), (3, 3)]


@pytest.mark.slow
def test_lavas_own_runtime_agrees_too(checkpoint: Path, images: LabelledImages) -> None:
    result = verify(checkpoint, images, limit=2, multiprocess=True)
    assert list(by_run(result)) == [*PROMISED, "Lava, multiprocess"]
    assert result.passed
