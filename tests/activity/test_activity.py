from __future__ import annotations

import hashlib
import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.paths import ROOT

from stas_neuro.activity import (
    KINDS,
    Activity,
    ActivityBuilder,
    Layer,
    Origin,
    hash_images,
    read_activity,
    step_labels,
    write_activity,
)
from stas_neuro.activity import file as activity_file
from stas_neuro.activity.layers import builder_for, layers_of
from stas_neuro.energy import GATINGS
from stas_neuro.errors import InputError
from stas_neuro.ir import (
    LIF,
    Conv2d,
    Edge,
    Gate,
    Graph,
    HaltAccumulate,
    HaltingScore,
    Input,
    Linear,
    Output,
    Phase,
    Preprocessing,
    Readout,
    Stage,
    Tokens,
)
from stas_neuro.mapping import CoreLocation
from stas_neuro.trace import Trace

DOCS = ROOT / "docs" / "activity.md"
LAYERS = (
    Layer(name="fc", kind="Linear", scope="block0", neurons=6, weights=18, placed_with="lif", stage=0),
    Layer(name="lif", kind="LIF", scope="block0", neurons=6, stage=0),
)
STEPS = step_labels(2)


@st.composite
def records(draw: st.DrawFn, *, observed: bool | None = None) -> Activity:
    images = draw(st.integers(0, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (images, len(LAYERS), len(STEPS))
    counts = {kind: rng.integers(0, 10**12, shape) * (rng.random((1, *shape[1:])) < 0.5) for kind in KINDS}
    seen = draw(st.booleans()) if observed is None else observed
    return Activity(
        layers=LAYERS,
        steps=STEPS,
        counts=counts,
        visits=rng.random((images, 2, 1, 3)) < 0.5 if seen else None,
        origin=Origin(
            images=tuple(f"{number:016x}" for number in rng.integers(0, 99, images).tolist()),
            labels=tuple(rng.integers(0, 9, images).tolist()) if draw(st.booleans()) else None,
            network="n",
            arithmetic="float64",
        ),
    )


@given(records(observed=True), records(observed=True), records(observed=True))
def test_records_add_up(a: Activity, b: Activity, c: Activity) -> None:
    both = a + b
    assert both.images == a.images + b.images
    for kind in KINDS:
        assert both.total(kind) == a.total(kind) + b.total(kind)
        assert np.array_equal(both.per_layer(kind), a.per_layer(kind) + b.per_layer(kind))
        assert np.array_equal(both.per_step(kind), a.per_step(kind) + b.per_step(kind))
    assert (a + b) + c == a + (b + c) == Activity.concatenate([a, b, c])
    assert both.restrict(slice(0, a.images)) == a
    assert both.restrict(np.arange(a.images, both.images)) == b
    assert both.origin.images == (a.origin.images or ()) + (b.origin.images or ())
    assert both.restrict(slice(0, a.images)).origin.images == a.origin.images
    assert both.origin.network == "n" and both.origin.gating is None
    if a.origin.labels is not None and b.origin.labels is not None:
        assert both.restrict(np.arange(a.images, both.images)).origin == b.origin
    else:
        assert both.origin.labels is None


@given(records())
def test_parts_sum_to_the_whole(record: Activity) -> None:
    for kind in KINDS:
        total = int(record.counts[kind].sum())
        assert total == record.total(kind)
        assert (
            total
            == record.per_image(kind).sum()
            == record.per_layer(kind).sum()
            == record.per_step(kind).sum()
        )


@settings(deadline=None)
@given(record=records())
def test_file_gives_back_the_record(tmp_path_factory: pytest.TempPathFactory, record: Activity) -> None:
    path = tmp_path_factory.getbasetemp() / "activity.json"
    write_activity(record, path)
    assert read_activity(path) == record and read_activity(path).origin == record.origin
    document = json.loads(path.read_text())
    del document["origin"]
    path.write_text(json.dumps(document))
    assert read_activity(path) == record and read_activity(path).origin == Origin()


def test_equal_images_have_the_same_hash_in_every_type() -> None:
    whole = np.random.default_rng(0).integers(0, 256, (3, 1, 4, 5)).astype(np.uint8)
    hashes = hash_images(whole)
    assert len(set(hashes)) == 3 and all(re.fullmatch("[0-9a-f]{16}", each) for each in hashes)
    assert hash_images(whole / 255) == hash_images(whole.astype(np.float32) / 255) == hashes
    assert hash_images(whole[1:]) == hashes[1:]
    assert hash_images(np.full((1, 2), -0.0)) == hash_images(np.zeros((1, 2)))
    changed = whole.copy()
    changed[1, 0, 2, 2] ^= 1
    assert [a == b for a, b in zip(hash_images(changed), hashes, strict=True)] == [True, False, True]
    assert not set(hash_images(whole.swapaxes(2, 3))) & set(hashes)
    assert not set(hash_images(whole.reshape(3, 1, 5, 4))) & set(hashes)
    # As docs/activity.md describes it.
    text = b"1x4x5\n" + (whole[0] / 255).astype("<f4").tobytes()
    assert hashlib.sha256(text).hexdigest()[:16] == hashes[0]


def test_an_origin_is_of_as_many_images() -> None:
    record = ActivityBuilder(LAYERS, STEPS, images=2).build()
    for name, values in (("images", ("a",)), ("labels", (1, 2, 3))):
        with pytest.raises(InputError, match=f"origin.{name}: has {len(values)} entries; use 2"):
            replace(record, origin=Origin(**{name: values}))


def test_builder_fills_the_places_it_is_told() -> None:
    builder = ActivityBuilder(LAYERS, STEPS, images=2)
    builder.add("synops", "fc", "step1", np.array([3, 4]))
    builder.add("synops", "fc", 1, 10)
    builder.add("spikes_out", "lif", "end", np.array([1, 0], dtype=np.uint8))
    record = builder.build(np.array([[[[True]], [[False]]], [[[True]], [[True]]]]))
    assert record.counts["synops"][:, 0, record.step_index("step1")].tolist() == [13, 14]
    assert record.total("spikes_out") == 1
    assert record.token_ratio == 0.75
    assert record.total("macs") == 0


@pytest.mark.parametrize(
    ("kind", "layer", "step", "amount"),
    [
        ("synop", "fc", "step1", 1),
        ("synops", "fd", "step1", 1),
        ("synops", "fc", "step9", 1),
        ("synops", "fc", -1, 1),
        ("synops", "fc", "step1", 1.5),
        ("synops", "fc", "step1", [1, 2, 3]),
    ],
)
def test_builder_refuses(kind: str, layer: str, step: str | int, amount: Any) -> None:
    with pytest.raises(InputError):
        ActivityBuilder(LAYERS, STEPS, images=2).add(kind, layer, step, amount)


def test_a_record_is_read_only_and_checked() -> None:
    record = ActivityBuilder(LAYERS, STEPS, images=1).build()
    with pytest.raises(ValueError, match="read-only"):
        record.counts["synops"][0, 0, 0] = 1
    assert np.isnan(record.token_ratio)
    counts = dict(record.counts)
    counts["synops"] = counts["synops"] - 1
    with pytest.raises(InputError, match="synops is -1"):
        Activity(layers=LAYERS, steps=STEPS, counts=counts)
    with pytest.raises(InputError, match="macs"):
        Activity(layers=LAYERS, steps=STEPS, counts={k: v for k, v in record.counts.items() if k != "macs"})
    with pytest.raises(InputError, match="lif appears more than once"):
        ActivityBuilder((LAYERS[1], LAYERS[1]), STEPS, images=1).build()


def test_records_of_different_runs_are_not_joined() -> None:
    def built(layers: tuple[Layer, ...] = LAYERS, steps: tuple[str, ...] = STEPS, **more: Any) -> Activity:
        return ActivityBuilder(layers, steps, images=1, **more).build()

    record = built()
    visits = np.ones((1, 2, 1, 3), np.bool_)
    changed = replace(LAYERS[0], weights=9)
    for other, told in (
        (built(steps=step_labels(3)), "step 3 of 'record 1' is end, of 'record 2' step3"),
        (built((changed, LAYERS[1])), "neurons 6, weights 18, placed_with lif, stage 0), of 'record 2' fc ("),
        (built((*LAYERS, replace(LAYERS[1], name="more"))), "layer 2 of 'record 1' is none, of 'record 2' m"),
        (
            built(cores=(CoreLocation(x=1),)),
            "core 0 of 'record 1' is at no place, of 'record 2' at chip 0, tile 1,0",
        ),
        (built(late=2), "decisions of 'record 1' are 0 hardware steps late, of 'record 2' 2"),
        (replace(record, visits=visits), "'record 1' has no visits, 'record 2' visits of 2 steps, 1 blocks"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=re.escape(told)):
            record + other
    known = Origin(network="1" * 64, arithmetic="float64", processes="own", gating="silent", chip="loihi1")
    for name, value, told in (
        ("network", "2" * 64, f"'record 1' ran the network {'1' * 16}, 'record 2' another, {'2' * 16}"),
        ("arithmetic", "float32", "'record 1' was computed in float64, 'record 2' in float32"),
        ("processes", "stock", "'record 1' was counted in own processes, 'record 2' in stock ones"),
        ("gating", "none", "'record 1' was run with gating silent, 'record 2' with none"),
    ):
        ours = replace(record, origin=known)
        theirs = replace(record, origin=replace(known, **{name: value}))
        with pytest.raises(InputError, match=re.escape(told)):
            ours + theirs
        assert (ours + ours).origin == known
        # What one of them does not say is not known of both.
        assert (ours + record).origin == Origin()
    placed = replace(built(cores=(CoreLocation(),)), origin=known)
    with pytest.raises(InputError, match="'record 1' was placed for loihi1, 'record 2' for loihi2"):
        placed + replace(placed, origin=replace(known, chip="loihi2"))


def _written(tmp_path: Path) -> dict[str, Any]:
    builder = ActivityBuilder(LAYERS, STEPS, images=2)
    builder.add("synops", "fc", "step1", np.array([3, 4]))
    write_activity(builder.build(np.ones((2, 2, 1, 3), np.bool_)), tmp_path / "a.json")
    document: dict[str, Any] = json.loads((tmp_path / "a.json").read_text())
    return document


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "format is 'other'"),
        ({"schema_version": 2}, "schema_version is 2"),
        ({"schema_version": "1"}, "schema_version"),
        ({"images": 3}, "events.0.count"),
        ({"images": -1}, "images"),
        ({"kinds": ["synops"]}, "kinds: missing"),
        ({"kinds": [*KINDS, "synops"]}, "kinds: unknown or repeated"),
        ({"kinds": [*KINDS, "spikes_in"]}, "kinds: unknown or repeated"),
        ({"extra": 1}, "extra"),
        (
            {"events": [{"layer": "fc", "step": "step1", "kind": "synops", "count": [1.5, 2]}]},
            "events.0.count",
        ),
        (
            {"events": [{"layer": "fc", "step": "step1", "kind": "synops", "count": [2**70, 2]}]},
            "events.0.count",
        ),
        ({"events": [{"layer": "fc", "step": "step1", "kind": "synops", "count": -1}]}, "synops is -1"),
        ({"events": [{"layer": "no", "step": "step1", "kind": "synops", "count": 1}]}, "events.0.layer"),
        ({"events": [{"layer": "fc", "step": "step1", "kind": "synops", "count": 1}] * 2}, "twice"),
        (
            {"layers": [{"name": "fc", "kind": "Linear", "scope": "", "neurons": -1}]},
            "layer fc: neurons is -1",
        ),
        (
            {"layers": [{"name": "fc", "kind": "Linear", "scope": "", "neurons": 1, "phase": "never"}]},
            "layer fc: phase is 'never'",
        ),
        (
            {"layers": [{"name": "fc", "kind": "Linear", "scope": "", "neurons": 1, "wieghts": 1}]},
            "layers.0.wieghts",
        ),
        ({"visits": {"time_steps": 2, "blocks": 1, "tokens": 3, "bits": "!"}}, "visits.bits"),
        ({"visits": {"time_steps": 2, "blocks": 1, "tokens": 30, "bits": "AAAA"}}, "visits.bits"),
    ],
)
def test_wrong_files_are_refused_by_file_and_field(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(_written(tmp_path) | change))
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        read_activity(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_files_from_before_cpu_operations_are_read_as_without_any(tmp_path: Path) -> None:
    document = _written(tmp_path)
    before = read_activity(tmp_path / "a.json")
    document["kinds"].remove("cpu_operations")
    (tmp_path / "a.json").write_text(json.dumps(document))
    assert read_activity(tmp_path / "a.json") == before
    assert before.total("cpu_operations") == 0


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_activity(tmp_path / "none.json")
    (tmp_path / "cut.json").write_text('{"format": ')
    with pytest.raises(InputError, match=r"cut\.json: is not JSON: "):
        read_activity(tmp_path / "cut.json")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    record = ActivityBuilder(LAYERS, STEPS, images=1).build()
    write_activity(record, path)
    monkeypatch.setattr(
        "os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(InputError, match="No space left"):
        write_activity(record + record, path)
    monkeypatch.undo()
    assert read_activity(path) == record
    assert list(tmp_path.iterdir()) == [path]


def test_the_example_in_the_docs_is_valid_and_the_tables_are_complete(tmp_path: Path) -> None:
    text = DOCS.read_text()
    (example,) = re.findall(r"```json\n(.*?)```", text, flags=re.DOTALL)
    (tmp_path / "a.json").write_text(example)
    assert read_activity(tmp_path / "a.json").total("synops") == 40
    documented = set(re.findall(r"^\| (.+?) \|", text, flags=re.MULTILINE))
    names = {name for cell in documented for name in re.findall(r"`(\w+)`", cell)}
    expected = set(KINDS) | {field.name for field in fields(Layer)}
    expected |= {field.name for field in fields(activity_file.File)}
    expected |= {field.name for field in fields(Origin)}
    expected |= set(GATINGS)
    assert names == expected


def graph(time_steps: int = 2) -> Graph:
    """A block of a Linear, a LIF and raster halting behind a spiking patch stem; 4 tokens of 3 channels."""
    step: dict[str, Any] = {"phase": Phase.STEP, "scope": "block0"}
    halting: dict[str, Any] = {"phase": Phase.STEP, "scope": "halting"}
    nodes = (
        Input(name="image", phase=Phase.ONCE, scope="stem", shape=(1, 4, 4)),
        Conv2d(
            name="conv", phase=Phase.ONCE, scope="stem", in_channels=1, out_channels=3, kernel=2, stride=2,
            padding=0, bias=False,
        ),
        LIF(name="conv_lif", phase=Phase.ONCE, scope="stem", threshold=1.0, fire=">="),
        Tokens(name="tokens", phase=Phase.ONCE, scope="stem"),
        Gate(name="gate", axis="token", **step),
        Linear(name="fc", in_features=3, out_features=3, bias=True, **step),
        LIF(name="fc_lif", threshold=1.0, fire=">=", **step),
        Linear(name="fc2", in_features=3, out_features=3, bias=True, **step),
        LIF(name="fc2_lif", threshold=1.0, fire=">=", **step),
        HaltingScore(name="score", alpha=1.0, beta=-1.0, **halting),
        HaltAccumulate(name="halt", mode="raster", epsilon=0.01, last_block=True, **halting),
        Readout(name="readout", phase=Phase.END, scope="head", mode="mean-field", blocks=1),
        Linear(name="head", phase=Phase.END, scope="head", in_features=3, out_features=2, bias=True),
        Output(name="out", phase=Phase.END, scope="head"),
    )  # fmt: skip
    edges = (
        Edge("image", "y", "conv", "x"),
        Edge("conv", "y", "conv_lif", "x"),
        Edge("conv_lif", "s", "tokens", "x"),
        Edge("tokens", "y", "gate", "x"),
        Edge("halt", "alive", "gate", "mask", 1),
        Edge("gate", "y", "fc", "x"),
        Edge("halt", "alive", "fc", "alive", 1),
        Edge("fc", "y", "fc_lif", "x"),
        Edge("halt", "alive", "fc_lif", "alive", 1),
        Edge("fc_lif", "s", "fc2", "x"),
        Edge("halt", "alive", "fc2", "alive", 1),
        Edge("fc2", "y", "fc2_lif", "x"),
        Edge("halt", "alive", "fc2_lif", "alive", 1),
        Edge("fc2_lif", "s", "score", "z"),
        Edge("score", "h", "halt", "score"),
        Edge("halt", "alive", "halt", "alive", 1),
        Edge("halt", "total", "halt", "total", 1),
        Edge("fc2_lif", "s", "readout", "z0"),
        Edge("halt", "p", "readout", "p0"),
        Edge("readout", "y", "head", "x"),
        Edge("head", "y", "out", "x"),
    )
    tensors = {
        "conv/weight": np.ones((3, 1, 2, 2)),
        "fc/weight": np.ones((3, 3)), "fc/bias": np.zeros(3),
        "fc2/weight": np.ones((3, 3)), "fc2/bias": np.zeros(3),
        "head/weight": np.ones((2, 3)), "head/bias": np.zeros(2),
    }  # fmt: skip
    return Graph(
        stage=Stage.FOLDED,
        time_steps=time_steps,
        nodes=nodes,
        edges=edges,
        tensors=tensors,
        classes=("a", "b"),
        preprocessing=Preprocessing((0.0,), (1.0,)),
    )


def test_layers_of_a_graph() -> None:
    table = {layer.name: layer for layer in layers_of(graph())}
    assert list(table) == [
        "conv",
        "conv_lif",
        "fc",
        "fc_lif",
        "fc2",
        "fc2_lif",
        "score",
        "halt",
        "readout",
        "head",
    ]
    conv = Layer(
        name="conv", kind="Conv2d", scope="stem", neurons=12, in_features=1, out_features=3, weights=12,
        placed_with="conv_lif", phase="once", stage=0,
    )  # fmt: skip
    assert table["conv"] == conv
    placed = {layer.name: layer.placed_with for layer in table.values() if layer.placed_with}
    assert placed == {"conv": "conv_lif", "fc": "fc_lif", "fc2": "fc2_lif", "score": "halt"}
    # The halting unit spikes two stages after the block began, and the block waits for it at the next step.
    stages = {name: layer.stage for name, layer in table.items()}
    assert stages == {
        "conv": 0, "conv_lif": 0, "fc": 0, "fc_lif": 0, "fc2": 1, "fc2_lif": 1, "score": 2, "halt": 2,
        "readout": 0, "head": 0,
    }  # fmt: skip
    assert [layer.name for layer in table.values() if layer.feedback] == ["halt"]
    not_a_step = [layer.name for layer in table.values() if layer.phase != "step"]
    assert not_a_step == ["conv", "conv_lif", "readout", "head"]
    assert (table["halt"].neurons, table["halt"].out_features) == (4, 1)


def test_builder_for_a_graph_has_its_steps() -> None:
    assert builder_for(graph(), 3).build().steps == ("once", "step1", "step2", "end")
    assert step_labels(2, stem=True) == ("once", "stem1", "stem2", "step1", "step2", "end")
    with pytest.raises(InputError):
        step_labels(0)


@given(records(observed=True), records(observed=True))
def test_traces_join_in_order(a: Activity, b: Activity) -> None:
    traces = [
        Trace(
            logits=np.arange(2.0 * run.images).reshape(-1, 2) * (-1) ** index,
            visits=np.asarray(run.visits),
            counted=run,
            spikes={"lif": np.zeros((run.images, 2, 6), np.uint8)},
        )
        for index, run in enumerate((a, b))
    ]
    both = Trace.concatenate(traces)
    assert both.activity == a + b
    assert both.predictions.tolist() == [1] * a.images + [0] * b.images
    assert both.spikes["lif"].shape == (both.images, 2, 6)
    if both.images:
        assert both.token_ratio == both.activity.token_ratio
    with pytest.raises(InputError, match="activity covers"):
        Trace(
            logits=np.zeros((a.images + 1, 2)), visits=np.zeros((a.images + 1, 2, 1, 3), np.bool_), counted=a
        )


def test_a_trace_without_counts_says_where_counts_come_from() -> None:
    trace = Trace(logits=np.zeros((1, 2)), visits=np.zeros((1, 2, 1, 3), np.bool_), counted=None)
    with pytest.raises(InputError, match=r"not counted; use a trace of stas_neuro\.run, which counts events"):
        _ = trace.activity
