"""Files that once cost a hang, the memory of the machine or a traceback, each with what is said of it now."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from fuzz.files import write_files
from fuzz.target import find
from fuzz.targets.bundle import rehash
from support.energy_runs import run
from support.ir_random import Recipe, build

from stas_neuro.activity import Activity, read_activity
from stas_neuro.chips import load_profile
from stas_neuro.chips.catalogue import parse_profile
from stas_neuro.energy import compare_schedules, estimate
from stas_neuro.energy.core_assignment import Core, core_of
from stas_neuro.energy.dynamic import CORES_LISTED
from stas_neuro.energy.measurements import read_measurements
from stas_neuro.energy.packing import CORES_LIMIT, cut_group, pack
from stas_neuro.energy.timing import STEPS_LIMIT, hardware_steps
from stas_neuro.errors import InputError, StasError
from stas_neuro.ir import BatchNorm
from stas_neuro.placement.tiles import near_slots
from stas_neuro.reference import run_reference
from stas_neuro.report import estimate_report

Change = Callable[[dict[str, Any]], object]
BOARD = b"synops,energy_j\n%s\n2e6,1\n3e6,1\n"
EMPTY = {"time_steps": 10**9, "blocks": 1, "tokens": 0, "bits": ""}


def of(kind: str, **fields: Any) -> Change:
    """Change the first node of a type."""
    return lambda graph: next(node for node in graph["nodes"] if node["type"] == kind).update(fields)


def layer(**fields: Any) -> Change:
    return lambda record: record["layers"][1].update(fields)


def top(**fields: Any) -> Change:
    return lambda document: document.update(fields)


def piece(**fields: Any) -> Change:
    return lambda mapping: mapping["pieces"][0].update(fields)


ACTIVITY: dict[str, tuple[Change, str]] = {
    "images": (top(images=10**9, visits=None), "images: 1000000000 images of 4 layers and 4 steps in "),
    "more images": (top(images=2_100_000_000, visits=None), "images: 2100000000 images"),
    "images of nothing": (top(images=2**53, layers=[], events=[], visits=None), "images of 0 layers"),
    "stage": (layer(stage=10**9), "layer lif: stage is 1000000000; use 0 to 16384"),
    "stage of no layer": (layer(stage=4), "stage is 4; count from 0: 4 layers of phase step are listed"),
    "neurons": (layer(neurons=2**41), "layer lif: neurons is 2199023255552"),
    "neurons beyond 64 bits": (layer(neurons=10**58), "layers.1.neurons: is about 10^58"),
    "features": (layer(out_features=2**20), "layer lif: out_features is 1048576"),
    "late": (top(late=10**9), "late is 1000000000"),
    "count": (lambda r: r["events"][0].update(count=2**44), "a count of synops is 17592186044416"),
    "block": (layer(scope="block999999999"), "in block999999999, but visits have 1 blocks"),
    "placed in a circle": (layer(placed_with="fc"), "layer fc is placed with lif"),
    "placed with itself": (layer(placed_with="lif"), "is placed with lif"),
    "visits of nobody": (top(visits=EMPTY), "visits: sizes are (1000000000, 1, 0); use 1 to 65536"),
    "visits of no step": (lambda r: r["visits"].update(time_steps=4, tokens=1), "there is no step3"),
}
GRAPH: dict[str, tuple[Change, str]] = {
    "time steps": (top(time_steps=10**9), "time_steps is 1000000000; use a whole number, 1 to 1024"),
    "blocks": (of("Readout", blocks=10**8), "readout: blocks is 100000000; it must be in 1..1024"),
    "block of a scope": (of("LIF", scope="block7"), "scope is block7, the network has 1 blocks"),
    "pixels": (of("Input", shape=[2, 10**9, 10**9]), "has 2000000000000000000 values"),
    "kernel": (of("Conv2d", kernel=10**6), "kernel is 1000000; it must be in 1..64"),
    "classes that are a text": (top(classes="abc"), "graph.json: classes: is 'abc', it must be a list"),
    "large float": (of("HaltingScore", alpha=1e29), "alpha is 1e+29; it must be at most 1e+12"),
    "larger float": (of("HaltingScore", alpha=1e308), ".alpha: is 1e+308, nonzero numbers must be"),
}
MAPPING: dict[str, tuple[Change, str]] = {
    "core": (piece(core=2**53), "there are 5 cores"),
    "features": (piece(features=[0, 2**53]), "feature 9007199254740991 is not below 33554432"),
}
BOARDS = {
    "beyond a float": (b"1e308,1", "run 1: synops is 1e+308"),
    "other digits": ("\u0661,1".encode(), "run 1: synops is '\u0661', not a number"),
    "many runs": (b"\n".join([b"1,1"] * 2000), "has 2002 runs; use at most 1000"),
}
PROFILES = {
    "extends NUL": (
        b'title = "Intel',
        b'extends = "a\\u0000.toml"\ntitle = "Intel',
        "extends is 'a\\x00.toml'",
    ),
    "bits": (
        b"value = 9\nlow = 9\nhigh = 9",
        b"value = 9\nlow = 9\nhigh = 1e9",
        "high is 1e+09 bit; use at most 64",
    ),
    "memory": (
        b"value = 128\nlow = 128\nhigh = 128",
        b"value = 128\nlow = 128\nhigh = 1e13",
        "high is 1e+13",
    ),
    "energy": (b"high = 39.8", b"high = 1e308", "energy.synaptic_operation.high: is 1e+308"),
}


@pytest.mark.parametrize("case", ACTIVITY)
def test_an_activity_file_declares_no_more_than_it_carries(case: str, tmp_path: Path) -> None:
    refused("activity", 0, "activity.json", *ACTIVITY[case], tmp_path)


@pytest.mark.parametrize("case", GRAPH)
def test_a_graph_declares_no_more_than_a_network_can_be(case: str, tmp_path: Path) -> None:
    refused("bundle", 1, "graph.json", *GRAPH[case], tmp_path)


@pytest.mark.parametrize("case", MAPPING)
def test_a_mapping_has_the_neurons_of_its_network(case: str, tmp_path: Path) -> None:
    refused("bundle", 1, "mapping.json", *MAPPING[case], tmp_path)


def refused(reader: str, seed: int, name: str, change: Change, message: str, scratch: Path) -> None:
    """Change a file of a valid input, and require that it is refused so."""
    content: dict[str, Any] = dict(find(reader).seeds[seed])
    document = json.loads(content[name])
    change(document)
    content[name] = json.dumps(document).encode()
    write_files(rehash(content, Random(0)), scratch / "in")
    (scratch / "out").mkdir()
    with pytest.raises(InputError) as caught:
        find(reader).read(scratch / "in", scratch / "out")
    assert message in str(caught.value) and name in str(caught.value)


@pytest.mark.parametrize("case", BOARDS)
def test_measurements_are_numbers_that_can_be_fitted(case: str, tmp_path: Path) -> None:
    row, message = BOARDS[case]
    (tmp_path / "board.csv").write_bytes(BOARD % row)
    with pytest.raises(InputError) as caught:
        read_measurements(tmp_path / "board.csv")
    assert message in str(caught.value) and "board.csv" in str(caught.value)


@pytest.mark.parametrize("case", PROFILES)
def test_a_profile_holds_numbers_of_chips(case: str) -> None:
    before, after, message = PROFILES[case]
    text = (files("stas_neuro.hw_profiles") / "loihi1.toml").read_bytes()
    assert before in text
    with pytest.raises(InputError) as caught:
        parse_profile(text.replace(before, after, 1), "mine.toml")
    assert message in str(caught.value) and "mine.toml" in str(caught.value)


def test_a_chain_of_profiles_has_an_end(tmp_path: Path) -> None:
    head = 'schema_version = 1\nname = "x"\ntitle = "x"\nextends = "{}"\n'
    for number in range(40):
        (tmp_path / f"{number}.toml").write_text(head.format(f"{number + 1}.toml"))
    (tmp_path / "40.toml").write_text(head.format("loihi1"))
    with pytest.raises(InputError, match=r"16\.toml: more than 16 profiles extend each other"):
        load_profile(tmp_path / "0.toml")
    assert load_profile(tmp_path / "30.toml").extends == "31.toml"


def grown(**fields: Any) -> Activity:
    """The small run, its LIF otherwise."""
    record = run()
    return replace(record, layers=(record.layers[0], replace(record.layers[1], **fields), *record.layers[2:]))


def test_many_cores_are_priced_by_their_kinds() -> None:
    """As many as the largest machines have, and no more."""
    loihi = load_profile("loihi2")
    cost = estimate(grown(neurons=loihi.limit("neurons_per_core") * 10**6), loihi)
    assert cost.cores == 10**6 + 1 and cost.chips == 10**6 // loihi.limit("cores_per_chip") + 1
    assert (
        cost.cores_breakdown == ()
        and f"at most {CORES_LISTED} are listed" in cost.unavailable["cores_breakdown"]
    )
    with pytest.raises(
        StasError, match=f"layer lif of .* needs .* cores; .*: the limit for prices is {CORES_LIMIT}"
    ):
        estimate(grown(neurons=2**40), "loihi2")


def test_packing_by_kinds_is_first_fit_piece_by_piece() -> None:
    """The same cores as when each piece looks at each core in turn."""
    rng, loihi = np.random.default_rng(0), load_profile("loihi1")
    for _ in range(200):
        layers = [
            replace(
                row,
                neurons=int(rng.integers(1, 9000)),
                out_features=int(rng.integers(1, 400)),
                weights=int(rng.integers(0, 300000)),
            )
            for row in run().layers
        ]
        found = pack(layers, loihi)
        assert np.array_equal(found.share, one_by_one(layers))


def one_by_one(layers: Any) -> Any:
    loihi = load_profile("loihi1")
    capacity = core_of(loihi)
    owners = [row for row in layers if not row.placed_with]
    cores: list[Core] = []
    places = []
    for owner, row in enumerate(owners):
        bits = 8 * sum(each.weights for each in layers if row.name in (each.name, each.placed_with))
        cut = cut_group(row, bits, capacity)
        for _ in range(cut.pieces):
            fits = (
                number
                for number, core in enumerate(cores)
                if core.neurons + cut.neurons <= capacity.neurons
                and core.memory + cut.memory <= capacity.memory
            )
            number = next(fits, len(cores))
            if number == len(cores):
                cores.append(Core(0, 0))
            cores[number].neurons += cut.neurons
            cores[number].memory += cut.memory
            places.append((owner, number))
    share = np.zeros((len(owners), len(cores)))
    for owner, number in places:
        share[owner, number] += 1
    return share / share.sum(axis=1, keepdims=True)


def test_hardware_steps_are_limited() -> None:
    """Stages and steps are listed in a record, but their product is what an inference lasts."""
    record = run()
    rows = tuple(replace(record.layers[1], name=f"lif{stage}", stage=stage) for stage in range(200))
    steps = tuple(f"step{step}" for step in range(1, 101))
    counts = {kind: np.zeros((1, len(rows), len(steps)), np.int64) for kind in record.counts}
    long = Activity(layers=rows, steps=steps, counts=counts)
    with pytest.raises(
        InputError, match=f"100 steps of phase step with 200 stages each; .* at most {STEPS_LIMIT}"
    ):
        hardware_steps(long, "raster")
    assert len(hardware_steps(long, "pipelined")) == 299


def test_sums_beyond_64_bits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stas_neuro.energy.dynamic.TOTAL_LIMIT", 23)
    with pytest.raises(InputError, match="synops of all images add up to more than 23"):
        estimate(run(), "cmos45")
    record = run()
    counts = {**record.counts, "macs": np.full((2**20, 1, 1), 2**43)}
    shape = {kind: np.broadcast_to(np.int64(0), (2**20, 1, 1)) for kind in counts}
    with pytest.raises(InputError, match="counts of macs add up to more than 4611686018427387904"):
        Activity(layers=record.layers[1:2], steps=("step1",), counts={**shape, "macs": counts["macs"]})


def test_a_chip_without_any_time_has_no_throughput() -> None:
    loihi = load_profile("loihi1")
    times = {name: replace(entry, low=0.0, value=0.0, interval="none") for name, entry in loihi.time.items()}
    cost = estimate(run(), replace(loihi, time=times))
    assert cost.throughput_images_per_s is None and cost.latency_s is not None and cost.latency_s.low == 0
    assert cost.unavailable["throughput_images_per_s"] == "the time of an image may be 0 by the profile"
    estimate_report(cost)
    assert compare_schedules({"it": run()}, [replace(loihi, time=times)]) == ()


def test_a_value_beyond_the_floats_of_a_run_is_refused() -> None:
    """Within the limits only in float32, and in a graph whose normalisation is not folded."""
    graph = build(Recipe(halting="off", channels=2, height=4, width=4))
    tensors = {key: np.sign(value) * value.dtype.type(1e12) for key, value in graph.tensors.items()}
    tensors |= {key: value * 0 for key, value in graph.tensors.items() if key.endswith("/var")}
    nodes = [replace(node, eps=1e-30) if isinstance(node, BatchNorm) else node for node in graph.nodes]
    large = replace(graph, tensors=tensors, nodes=tuple(nodes))
    images = np.ones((1, *graph.input.shape))
    with pytest.raises(InputError, match=r"stem\.bn0: overflow .* in float32; run it in float64"):
        run_reference(large, images, dtype=np.float32)
    assert run_reference(large, images).images == 1


def test_the_nearest_places_of_a_chip_are_found_without_listing_all() -> None:
    assert near_slots(9, (3, 2, 2)) == [0, 1, 2, 3, 4, 6, 7, 8, 9]  # tiles 0,0 1,0 0,1 and one core further
    assert near_slots(12, (3, 2, 2)) == list(range(12))
    far = near_slots(600, (10**9, 10**9, 4))
    assert len(set(far)) == 600 and max(slot // 4 % 10**9 + slot // 4 // 10**9 for slot in far) == 16


def test_long_lists_are_read_in_one_pass(tmp_path: Path) -> None:
    """Names are compared with all others once, not once each."""
    document = json.loads(find("activity").seeds[-1]["activity.json"])
    rows = [document["layers"][1] | {"name": f"lif{number}"} for number in range(20_000)]
    (tmp_path / "long.json").write_text(json.dumps(document | {"layers": rows, "events": []}))
    assert len(read_activity(tmp_path / "long.json").layers) == 20_000
