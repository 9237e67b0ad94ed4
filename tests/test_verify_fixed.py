"""The certificate of the integer program: what is compared, what integers change, headroom, hashes."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_support import fine, make_checkpoint, make_data, stas
from ir_random import Recipe, build

from stas_neuro import __version__, api
from stas_neuro.bundle import Bundle, Provenance, load_bundle
from stas_neuro.data import LabelledImages, load_data
from stas_neuro.errors import CheckFailed, InputError
from stas_neuro.exporters.lava.build import build_network
from stas_neuro.exporters.lava.network import Network
from stas_neuro.ir import LIF, STATE_LIMIT, FixedLIF, FixedReadout, Graph, Node
from stas_neuro.passes.quantise import Quantise
from stas_neuro.reference import run_reference
from stas_neuro.trace import Trace
from stas_neuro.verification import Divergence, check_certificate, everywhere, runs, verify

DOCS = (Path(__file__).parents[1] / "docs" / "verification.md").read_text()
RECIPE = Recipe(norm=False, halting="raster", height=6, seed=1, alpha=1.0, beta=-3.0, epsilon=0.3)
FLOAT = build(RECIPE)
FIXED = Quantise(bits=3)(FLOAT)
RECORDED = {"record_spikes": True, "record_states": True}


def noise(count: int, labels: bool = False) -> LabelledImages:
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, (count, *FLOAT.input.shape)).astype(np.uint8)
    return LabelledImages(pixels, rng.integers(0, 3, count) if labels else None, source="noise")


def bundle(quantised: Graph | None = FIXED) -> Bundle:
    return Bundle(FLOAT, Provenance(source="nowhere"), {}, quantised)


def test_both_networks_are_compared_and_with_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(everywhere, "CHUNK", 2)
    images = noise(5, labels=True)
    result = verify(bundle(), images)
    result.require()
    assert [part.arithmetic for part in result.parts] == ["float", "fixed"]
    before, after = api.run(FLOAT, images, record_spikes=True), api.run(FIXED, images, **RECORDED)  # type: ignore[arg-type]
    for part, trace in zip(result.parts, (before, after), strict=True):
        assert part.token_ratio == pytest.approx(trace.token_ratio) and trace.token_ratio < 1
        assert part.accuracy == api.accuracy(trace, images)
        assert part.spikes_fired == {name: spikes.sum() for name, spikes in trace.spikes.items()}
        assert part.visits_skipped == (~trace.visits).sum() and not part.structure
    (lava,) = result.part("fixed").agreements
    assert (lava.run, lava.dtype, lava.baseline) == ("Lava, in-process", "integer", "reference integer")
    assert lava.promised and lava.equal and lava.first is None and lava.logit_delta == 0
    assert lava.spikes_compared == sum(spikes.size for spikes in after.spikes.values())
    assert lava.states_compared == sum(states.size for states in after.states.values())
    assert {layer.layer for layer in lava.layers if layer.quantity == "score"} == {"halt0", "halt1"}

    lowering = result.lowering
    assert lowering is not None and not lowering.promised
    assert [layer.layer for layer in lowering.layers] == [lif.name for lif in FLOAT.of_type(LIF)]
    different = {name: before.spikes[name] != after.spikes[name] for name in before.spikes}
    assert sum(lowering.visits_differing_by_token) > 0  # 3 bits are few
    for layer in lowering.layers:
        axes = tuple(axis for axis in range(different[layer.layer].ndim) if axis != 1)
        assert layer.differing_by_step == tuple(different[layer.layer].sum(axis=axes))
        assert layer.compared == different[layer.layer].size
    visits = before.visits != after.visits
    assert lowering.visits_differing_by_token == tuple(visits.sum(axis=(0, 1, 2)))
    assert lowering.tokens_differing == visits.any(axis=(1, 2)).sum()
    assert lowering.tokens_compared == len(images) * FLOAT.tokens
    assert lowering.logit_delta == np.abs(before.logits - after.logits).max()
    assert lowering.top1_changes == (before.predictions != after.predictions).sum()
    first = lowering.first
    assert first is not None and first.quantity == "spike"
    places = np.argwhere(different[first.layer])
    assert (first.image, first.step - 1, *first.place.values()) == tuple(places[0])
    earlier = [name for name in different if FLOAT.node(name).phase == FLOAT.node(first.layer).phase]
    assert not any(different[name][: first.image].any() for name in earlier)


def test_a_bundle_without_integers_is_certified_as_a_float_network() -> None:
    result = verify(bundle(None), noise(1))
    assert result.passed and [part.arithmetic for part in result.parts] == ["float"]
    assert result.lowering is None and result.saturation is None
    document = result.to_json()
    assert document["lowering"] is None and document["saturation"] is None


def test_one_arithmetic_can_be_asked_for() -> None:
    for arithmetic in ("float", "fixed"):
        result = verify(bundle(), noise(1), arithmetic=arithmetic)
        assert result.passed and [part.arithmetic for part in result.parts] == [arithmetic]
        assert result.lowering is None and ("torch" in result.left_out) == (arithmetic == "float")
    assert [part.arithmetic for part in verify(FIXED, noise(1)).parts] == ["fixed"]
    for network, arithmetic, problem in (
        (bundle(None), "fixed", "the bundle holds no integer program; compile it with --bits"),
        (FIXED, "float", "no float network: a quantised graph computes in fixed arithmetic"),
        (FLOAT, "fixed", "no fixed network: a folded graph computes in float arithmetic"),
        (FLOAT, "double", "no arithmetic is 'double'; use one of all, float, fixed"),
    ):
        with pytest.raises(InputError, match=problem):
            verify(network, noise(1), arithmetic=arithmetic)


def test_an_integer_program_that_met_nothing_is_not_certified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stas_neuro.exporters.lava.lava_api", None)
    result = verify(FIXED, noise(1))
    assert not result.passed and not result.part("fixed").agreements
    with pytest.raises(CheckFailed, match=r"nothing could be compared with reference integer.*install Lava"):
        result.require()


# Divergences


Change = Callable[[Trace], dict[str, Any]]


def moved(name: str, place: tuple[int, ...]) -> Change:
    def change(trace: Trace) -> dict[str, Any]:
        states = {key: array.copy() for key, array in trace.states.items()}
        states[name][place] += 1
        return {"states": states}

    return change


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (
            moved("blocks.1.q_lif", (1, 2, 3, 1)),
            Divergence(
                image=1,
                layer="blocks.1.q_lif",
                quantity="membrane",
                step=3,
                place={"token": 3, "channel": 1},
            ),
        ),
        (
            moved("halt1", (0, 1, 2)),
            Divergence(image=0, layer="halt1", quantity="score", step=2, place={"token": 2}),
        ),
        (
            lambda trace: {"logits": np.nextafter(trace.logits, 1e9)},
            Divergence(image=0, layer="output", quantity="logit", step=1, place={"class": 0}),
        ),
    ],
    ids=["membrane", "score", "logit"],
)
def test_a_single_integer_that_differs_fails(
    change: Change, wanted: Divergence, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runs.run_lava

    def changed(*arguments: Any, **options: Any) -> Trace:
        trace = run(*arguments, **options)
        return replace(trace, **change(trace))

    monkeypatch.setattr(runs, "run_lava", changed)
    result = verify(FIXED, noise(2))
    (failed,) = result.part("fixed").failures
    assert failed.first == wanted and failed.spikes_differing == 0
    assert failed.states_differing == (wanted.quantity != "logit")
    with pytest.raises(CheckFailed) as raised:
        result.require()
    assert f"first at {wanted}" in str(raised.value) and wanted.layer in str(raised.value)


def test_of_a_stem_that_merges_its_steps_what_is_before_the_merger_comes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = Quantise()(build(replace(RECIPE, stem="max")))
    before, behind = graph.node("stem.lif0"), graph.node("stem.lif1")
    assert (str(before.phase), str(behind.phase)) == ("stem", "once")
    run = runs.run_lava

    def changed(*arguments: Any, **options: Any) -> Trace:
        trace = run(*arguments, **options)
        spikes = {key: array.copy() for key, array in trace.spikes.items()}
        spikes["stem.lif0"][0, 2, 0, 0, 0] ^= 1
        spikes["stem.lif1"][0, 0, 0, 0, 0] ^= 1
        return replace(trace, spikes=spikes)

    monkeypatch.setattr(runs, "run_lava", changed)
    (failed,) = verify(graph, noise(1)).part("fixed").failures
    assert failed.first is not None and (failed.first.layer, failed.first.step) == ("stem.lif0", 3)


# A network from elsewhere


def test_an_exported_network_can_be_certified(tmp_path: Path) -> None:
    images = noise(2)
    for graph, arithmetic in ((FLOAT, "float"), (FIXED, "fixed")):
        (tmp_path / arithmetic).mkdir()
        build_network(graph).save(tmp_path / arithmetic)
        exported = Network.load(tmp_path / arithmetic)
        assert verify(bundle(), images, lava_network=exported).passed
        tensors = dict(exported.tensors)
        tensors["head/bias"] = np.zeros_like(tensors["head/bias"])
        failed = verify(bundle(), images, lava_network=replace(exported, tensors=tensors))
        assert [part.arithmetic for part in failed.parts if part.structure or part.failures] == [arithmetic]
        with pytest.raises(CheckFailed, match=rf"Lava's {arithmetic} network is not the graph's: head: bias"):
            failed.require()
        assert failed.to_json()["parts"][arithmetic == "fixed"]["structure"][0]["layer"] == "head"


def test_a_network_that_is_another_is_refused() -> None:
    with pytest.raises(InputError, match="Lava's network computes in float arithmetic, and none such is"):
        verify(FIXED, noise(1), lava_network=build_network(FLOAT))
    other = build_network(Quantise()(build(replace(RECIPE, blocks=1))))
    with pytest.raises(InputError, match=r"do not have the same layers: only one has blocks\.1\.add0"):
        verify(FIXED, noise(1), lava_network=other)


# Headroom


def membranes(graph: Graph, images: LabelledImages) -> dict[str, int]:
    """The largest membrane of each layer before its reset, from what neurons kept and what reached them."""
    reached: dict[str, list[np.ndarray]] = {}

    def observe(node: Node, inputs: Any) -> None:
        if isinstance(node, LIF):
            reached.setdefault(node.name, []).append(inputs["x"].copy())

    trace = run_reference(
        graph, api.preprocess(graph, images), chunk=len(images), observe=observe, **RECORDED
    )  # fmt: skip
    largest = {}
    for name, inputs in reached.items():
        lif = graph.node(name)
        assert isinstance(lif, FixedLIF)
        kept = np.zeros(inputs[0].shape)
        before = []
        for step, x in enumerate(inputs):
            before.append(np.trunc(kept * (4096 - lif.dv) / 4096) + x)
            kept = trace.states[name][:, step].astype(np.float64)
        largest[name] = int(np.abs(before).max())
    return largest


@pytest.mark.parametrize("stem", ["one-step", "late-max"])
def test_headroom_is_what_was_seen_beside_what_is_proved(stem: str) -> None:
    # More images than the reference computes at once.
    graph, images = Quantise()(build(replace(RECIPE, stem=stem))), noise(19)
    result = verify(graph, images)
    assert result.passed and result.saturation is not None
    assert {layer.layer: layer.largest for layer in result.saturation.layers} == membranes(graph, images)
    for layer in result.saturation.layers:
        assert 0 < layer.largest <= layer.bound <= layer.limit == STATE_LIMIT
        assert layer.bits == pytest.approx(math.log2(STATE_LIMIT) - math.log2(layer.bound))
        assert layer.bits_seen >= layer.bits >= 0
    assert result.saturation.readout_values > 0 == result.saturation.readout_clipped


def test_clipping_of_the_readout_is_counted() -> None:
    readout = FIXED.readout
    assert isinstance(readout, FixedReadout)
    tight = replace(readout, z_limit=1, z_shift=0)
    graph = replace(FIXED, nodes=tuple(tight if node is readout else node for node in FIXED.nodes))
    images, values = noise(3), []

    def observe(node: Node, inputs: Any) -> None:
        if isinstance(node, FixedReadout):
            values.extend(value.copy() for port, value in inputs.items() if port.startswith("z"))

    run_reference(graph, api.preprocess(graph, images), observe=observe)
    result = verify(graph, images)
    assert result.passed and result.saturation is not None
    assert result.saturation.readout_values == sum(value.size for value in values)
    assert result.saturation.readout_clipped == sum(int((np.abs(value) > 1).sum()) for value in values) > 0


# The document, and the command


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("certificates")
    make_checkpoint(directory / "checkpoint")
    make_data(directory / "data.npz", 4)
    fine("compile", directory / "checkpoint", "--bits", "8", "-o", directory / "b")
    fine("verify", directory / "b", "--data", directory / "data.npz", "--limit", "3", "-o", directory / "c")
    return directory


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_certificate_holds_the_hashes_of_what_it_is_about(home: Path) -> None:
    document = json.loads((home / "c").read_bytes())
    check_certificate(document)
    assert document["passed"] and document["images"] == 3 and document["tool_version"] == __version__
    assert document["source_sha256"] == {
        name: digest((home / "checkpoint" / name).read_bytes()) for name in api.CHECKPOINT_FILES
    }
    files = sorted(path.name for path in (home / "b").iterdir() if path.name != "manifest.json")
    assert document["bundle_sha256"] == {name: digest((home / "b" / name).read_bytes()) for name in files}
    assert len(files) == 4
    with np.load(home / "data.npz") as arrays:
        images = arrays["images"][:3, None]
        assert document["data"]["images_sha256"] == digest(images.tobytes())
        assert document["data"]["labels_sha256"] == digest(arrays["labels"][:3].astype(np.int64).tobytes())
        assert (document["data"]["shape"], document["data"]["dtype"]) == ([3, 1, 8, 8], "uint8")
    again = verify(home / "b", load_data(str(home / "data.npz")), limit=3).to_json()
    assert json.loads(json.dumps(again)) == document  # nothing in it depends on the day
    fewer = verify(home / "b", load_data(str(home / "data.npz")), limit=2).to_json()
    assert fewer["data"]["images_sha256"] != document["data"]["images_sha256"]
    of_checkpoint = verify(home / "checkpoint", noise_of(home), limit=1).to_json()
    assert of_checkpoint["source_sha256"] == document["source_sha256"]
    assert of_checkpoint["bundle_sha256"] == {} and of_checkpoint["data"]["labels_sha256"] is None


def noise_of(home: Path) -> LabelledImages:
    return replace(load_data(str(home / "data.npz")), labels=None)


def leaves(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value of a document."""
    pairs = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document)
        if isinstance(document, list)
        else ()
    )
    for key, value in pairs:
        yield from leaves(value, (*path, key))
        if not isinstance(value, dict | list):
            yield (*path, key)


def test_any_change_of_a_certificate_is_found(home: Path) -> None:
    document = json.loads((home / "c").read_bytes())
    places = list(leaves(document))
    assert len(places) > 500
    for path in places[::7]:
        changed = copy.deepcopy(document)
        inner = changed
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = "changed"
        problem: type[Exception] = InputError if path[0] in ("format", "schema_version") else CheckFailed
        with pytest.raises(problem):
            check_certificate(changed)
    check_certificate(dict(reversed(document.items())))  # the order of fields says nothing
    with pytest.raises(
        InputError, match="'stas-neuro run' version 1, not 'stas-neuro certificate' version 1"
    ):
        check_certificate({"format": "stas-neuro run", "schema_version": 1})


def test_every_field_of_a_certificate_is_documented(home: Path) -> None:
    document = json.loads((home / "c").read_bytes())
    data = ("source_sha256", "bundle_sha256", "left_out")  # by names of files and of parts
    fields = {key for path in leaves(document) if path[0] not in data for key in path if isinstance(key, str)}
    assert {"differing_by_step", "headroom_bits", "lowering", "first", "labels_sha256"} <= fields
    assert all(f"`{field}`" in DOCS for field in fields | set(data)), fields


def test_the_command_shows_integers_beside_floats(home: Path) -> None:
    arguments = ("verify", home / "b", "--data", home / "data.npz", "--limit", "2")
    shown = fine(*arguments).out
    document = fine(*arguments, "--json").json
    check_certificate(document)
    for heading in ("The float network: 2 images", "The integer program: 2 images", "What integers change"):
        assert heading in shown
    assert len(re.findall(r" equal +$", shown, re.M)) == 5
    assert shown.count("Lava's network says what the graph says") == 2
    tightest = min(document["saturation"]["layers"], key=lambda layer: layer["headroom_bits"])
    assert re.search(rf"tightest first.*\n.*\n {re.escape(tightest['layer'])} +{tightest['largest']} ", shown)
    hashes = {**document["source_sha256"], **document["bundle_sha256"]}.values()
    assert all(digest in shown for digest in (*hashes, document["certificate_sha256"]))
    assert document["data"]["images_sha256"] in shown and document["data"]["labels_sha256"] in shown
    assert "every promise holds" in shown
    only = fine(*arguments, "--arithmetic", "fixed").out
    assert "The integer program" in only and "The float" not in only and "What integers" not in only


def test_the_command_fails_where_integers_differ(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = everywhere.build_network

    def faulty(graph: Graph) -> Network:
        network = own(graph)
        layer = network.layer("blocks.0.k_lif")
        if "vth" not in layer.params:
            return network
        changed = replace(layer, params={**layer.params, "vth": layer.params["vth"] // 2})
        return replace(network, layers=tuple(changed if each is layer else each for each in network.layers))

    monkeypatch.setattr(everywhere, "build_network", faulty)
    done = stas("verify", home / "b", "--data", home / "data.npz", "--limit", "1", "-o", home / "failed")
    assert done.code == 1 and done.err.count("\n") == 1
    assert "Lava's fixed network is not the graph's: blocks.0.k_lif: vth is " in done.err
    assert re.search(
        r"Lava, in-process integer differs .*first at image 0, layer blocks\.0\.k_lif, ", done.err
    )
    assert "Lava's network DIFFERS from the graph: blocks.0.k_lif: vth" in done.out
    assert "NOT every promise holds" in done.out
    document = json.loads((home / "failed").read_bytes())
    check_certificate(document)
    assert document["passed"] is False


def test_a_certificate_is_replaced_by_force_only(home: Path, tmp_path: Path) -> None:
    arguments = ("verify", home / "b", "--data", home / "data.npz", "--limit", "1", "-o")
    refused = stas(*arguments, home / "c")
    assert refused.code == 2 and "--force" in refused.err
    (tmp_path / "other").write_text("[1]")
    for path in (tmp_path / "other", tmp_path):
        refused = stas(*arguments, path, "--force")
        assert refused.code == 2 and "exists and is no certificate" in refused.err
    assert "written to" in fine(*arguments, tmp_path / "c", "--arithmetic", "fixed").out
    fine(*arguments, tmp_path / "c", "--arithmetic", "float", "--force")
    assert [part["arithmetic"] for part in json.loads((tmp_path / "c").read_bytes())["parts"]] == ["float"]


def test_a_bundle_without_integers_says_so(home: Path, tmp_path: Path) -> None:
    fine("compile", home / "checkpoint", "-o", tmp_path / "b")
    assert load_bundle(tmp_path / "b").quantised is None
    done = stas("verify", tmp_path / "b", "--data", home / "data.npz", "--arithmetic", "fixed")
    assert done.code == 2 and "the bundle holds no integer program" in done.err


@pytest.mark.slow
def test_lavas_own_runtime_computes_the_same_integers() -> None:
    result = verify(FIXED, noise(2), multiprocess=True)
    assert [run.run for run in result.part("fixed").agreements] == ["Lava, in-process", "Lava, multiprocess"]
    assert result.passed
