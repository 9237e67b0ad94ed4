"""netx files as lava-dl writes them, and files that no graph can express."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support.cli_support import fine
from support.fixed_oracle import assert_is, run_oracle

import stas_neuro
from stas_neuro.bundle import Bundle, load_bundle
from stas_neuro.errors import InputError
from stas_neuro.importers.netx_file import read_netx, read_netx_here
from stas_neuro.importers.netx_graph import NetxGraphs, NetxOptions, graphs_of
from stas_neuro.ir import Conv2d, FixedLIF, FixedSynapticCurrent, Graph
from stas_neuro.reference import run_reference

CUBA = {"type": b"CUBA", "iDecay": 1024, "vDecay": 512, "vThMant": 40, "refDelay": 1, "gradedSpike": False}
FAST = CUBA | {"type": b"LOIHI", "iDecay": 4096}
RNG = np.random.default_rng(5)


def whole(*shape: int) -> Any:
    """Weights as slayer writes them: even whole numbers, as float32."""
    return (2 * RNG.integers(-20, 25, shape)).astype(np.float32)


CONV = {
    "type": [b"conv"], "shape": [4, 5, 6], "inChannels": 2, "outChannels": 4, "kernelSize": [3, 2],
    "stride": [1, 1], "padding": [1, 0], "dilation": [1, 1], "groups": 1, "weight": whole(4, 2, 3, 2, 1),
    "neuron": FAST,
}  # fmt: skip
FLATTEN = {"type": [b"flatten"], "shape": [120, 1, 1]}
DENSE = {"type": [b"dense"], "shape": [8], "inFeatures": 120, "outFeatures": 8, "weight": whole(8, 120),
         "bias": np.arange(8.0), "neuron": CUBA}  # fmt: skip
LAST = {"type": [b"dense"], "shape": [3, 1, 1], "weight": whole(24), "neuron": FAST}
LAYERS: Sequence[dict[str, Any]] = (CONV, FLATTEN, DENSE, LAST)


def write(path: Path, layers: Sequence[dict[str, Any]] = LAYERS, **simulation: int) -> Path:
    with h5py.File(path, "w") as file:
        for index, layer in enumerate(layers):
            group = file.create_group(f"layer/{index}")
            for name, value in layer.items():
                if isinstance(value, dict):
                    for part, number in value.items():
                        group.create_dataset(f"{name}/{part}", data=number)
                else:
                    group.create_dataset(name, data=value)
        for name, number in simulation.items():
            file.create_dataset(f"simulation/{name}", data=number)
    return path


def graphs(path: Path, layers: Sequence[dict[str, Any]] = LAYERS, **options: Any) -> NetxGraphs:
    return graphs_of(read_netx_here(write(path, layers)), NetxOptions(**{"time_steps": 6} | options))


def spikes_for(graph: Graph, count: int = 2) -> Any:
    rng = np.random.default_rng(1)
    return (rng.random((count, *graph.image_shape)) < 0.3).astype(np.int64)


def test_a_file_is_the_network_that_lava_runs(tmp_path: Path) -> None:
    # Lava's LIF (lava-nc 0.10.0, proc/lif/models.py) after a convolution as torch has it, in plain numpy.
    graph = graphs(tmp_path / "a.net").quantised
    x = spikes_for(graph, 1)
    trace = run_reference(graph, x, record_spikes=True, record_states=True)
    assert graph.input.shape == (2, 5, 7)
    frames = np.pad(x[0], ((0, 0), (0, 0), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(frames, (3, 2), (2, 3))
    sums = np.einsum("ochw,tcyxhw->toyx", CONV["weight"][..., 0].astype(np.int64), windows)
    first = neurons(sums, 4096, 512, 40, 0)
    second = neurons(first.reshape(6, -1) @ DENSE["weight"].T.astype(np.int64), 1024, 512, 40, np.arange(8))
    third = neurons(second @ LAST["weight"].reshape(3, 8).T.astype(np.int64), 4096, 512, 40, 0)
    np.testing.assert_array_equal(trace.spikes["layer0.neuron"][0], first)
    np.testing.assert_array_equal(trace.spikes["layer2.neuron"][0, :, 0], second)
    np.testing.assert_array_equal(trace.spikes["layer3.neuron"][0, :, 0], third)
    np.testing.assert_allclose(trace.logits[0], third.mean(axis=0), rtol=1e-12)
    assert first.any() and second.any() and third.any()


def neurons(a: Any, i_decay: int, v_decay: int, threshold: int, bias: Any) -> Any:
    u = v = np.zeros_like(a[0])
    fired = []
    for given in a:
        u = np.sign(u) * ((np.abs(u) * (4096 - i_decay)) >> 12) + (given << 6)
        v = np.sign(v) * ((np.abs(v) * (4096 - v_decay)) >> 12) + u + (bias << 6)
        v = v.clip(-(2**23) + 1, 2**23 - 1)
        fired.append(v > (threshold << 6))
        v = np.where(fired[-1], 0, v)
    return np.array(fired).astype(np.int64)


def test_membranes_that_can_leave_24_bits_clip_as_lavas_do(tmp_path: Path) -> None:
    weight = np.full((4, 600), -200.0)
    weight[:, :300] = 200
    slow = CUBA | {"iDecay": 2048, "vDecay": 1}
    layers = [{"type": [b"dense"], "shape": [4], "weight": weight, "neuron": slow}]
    graph = graphs(tmp_path / "a.net", layers, time_steps=12).quantised
    assert [lif.clips for lif in graph.of_type(FixedLIF)] == [True]
    x = np.zeros((1, 12, 600, 1, 1), np.int64)
    x[:, :, 300:] = 1
    trace = run_reference(graph, x, record_spikes=True, record_states=True)
    assert trace.states["layer0.neuron"].min() == -(2**23) + 1
    assert_is(run_oracle(graph, x[0]), trace, 0)
    assert not any(lif.clips for lif in graphs(tmp_path / "b.net").quantised.of_type(FixedLIF))


def test_the_real_network_is_the_same_but_for_rounding(tmp_path: Path) -> None:
    made = graphs(tmp_path / "a.net")
    x = spikes_for(made.quantised, 4)
    fixed = run_reference(made.quantised, x, record_spikes=True)
    real = run_reference(made.real, x.astype(np.float64), record_spikes=True)
    for name, spikes in fixed.spikes.items():
        assert (spikes == real.spikes[name]).mean() > 0.98


def test_an_image_enters_by_the_biases_of_input_neurons(tmp_path: Path) -> None:
    image = {"type": [b"input"], "shape": [2, 5, 7], "weight": 40, "bias": 36, "neuron": FAST}
    made = graphs(tmp_path / "a.net", [image, *LAYERS])
    assert "give 40 x + 36" in made.notes[0] and made.quantised.image_shape == (2, 5, 7)
    pixels = np.random.default_rng(0).integers(0, 90, (1, 2, 5, 7))
    trace = run_reference(made.quantised, pixels, record_spikes=True)
    held = np.broadcast_to(pixels, (6, 2, 5, 7))
    np.testing.assert_array_equal(trace.spikes["layer0.neuron"][0], neurons(held, 4096, 512, 40, 0))


def test_membranes_of_neurons_that_never_fire_are_the_logits(tmp_path: Path) -> None:
    adds_up = FAST | {"vDecay": 0, "vThMant": 131071}
    weight, bias = whole(3, 8), np.array([1.0, -2.0, 0.0])
    head = {"type": [b"dense"], "shape": [3], "weight": weight, "bias": bias, "neuron": adds_up}
    made = graphs(tmp_path / "a.net", [CONV, FLATTEN, DENSE, head])
    assert "never fires" in made.notes[0]
    x = spikes_for(made.quantised, 1)
    trace = run_reference(made.quantised, x, record_spikes=True)
    spikes = trace.spikes["layer2.neuron"][0, :, 0].astype(np.int64)
    membranes = ((spikes @ weight.T.astype(np.int64) + bias.astype(np.int64)) << 6).sum(axis=0)
    np.testing.assert_allclose(trace.logits[0] * 6 * 64, membranes, rtol=1e-12)


def without(layer: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in layer.items() if key != name}


REFUSED: dict[str, tuple[Sequence[dict[str, Any]], str]] = {
    "pool": ([CONV, {"type": [b"pool"]}], r"layer/1 \(pool\): is pooling, which netx does not load"),
    "recurrent": ([DENSE, LAST | {"type": [b"dense_rec"]}], r"layer/1 .*recurrent synapses"),
    "average": ([DENSE, {"type": [b"average"]}], "averages neurons"),
    "unknown": ([{"type": [b"magic"]}], "has the unknown type 'magic'"),
    "SDNN": ([DENSE | {"neuron": CUBA | {"type": b"SDNN"}}], "neurons of type 'SDNN'; use CUBA"),
    "threshold": ([DENSE | {"neuron": CUBA | {"vThMant": 2**17}}], "vThMant is 131072; a core holds"),
    "no decay": ([DENSE | {"neuron": CUBA | {"iDecay": 0}}], "iDecay is 0"),
    "refractory": ([DENSE | {"neuron": CUBA | {"refDelay": 3}}], "refDelay is 3: neurons have a refractory"),
    "graded": ([DENSE | {"neuron": CUBA | {"gradedSpike": True}}], "gradedSpike is 1: spikes carry values"),
    "no neurons": ([without(DENSE, "neuron")], "neuron/type is missing"),
    "delay": ([DENSE | {"delay": np.arange(8)}], "has delays of its axons or synapses"),
    "real weights": ([DENSE | {"weight": whole(8, 120) / 3}], "weight has values that are not whole numbers"),
    "NaN": ([DENSE | {"weight": np.full((8, 120), np.nan)}], "not whole numbers"),
    "large weights": ([DENSE | {"weight": 20 * whole(8, 120)}], r"netx holds -256\.\.254 with this mix"),
    "dilation": ([CONV | {"dilation": [0, 2]}], r"dilation \(0, 2\)"),
    "wrong width": ([CONV, FLATTEN, DENSE | {"weight": whole(8, 100)}], "takes 100 features"),
    "no flatten": ([CONV, DENSE], r"takes a map \(4, 5, 6\); put a flatten layer"),
    "flat": ([DENSE, CONV], "its input is flat"),
    "open input": ([CONV | {"stride": [2, 2]}], "the first layer leaves it open; give it: --input-shape"),
    "wrong map": ([CONV, {**CONV, "weight": whole(4, 4, 3, 2), "shape": [4, 9, 9]}], "its windows make"),
    "two inputs": ([CONV, {"type": [b"input"], "shape": [2, 5, 7]}], "is not the first layer"),
    "only an input": ([{"type": [b"input"], "shape": [2, 5, 7]}], "has no neurons"),
    "large biases": ([DENSE | {"bias": np.full(8, 5000.0)}], "bias has 8 values up to 5000"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_graph_cannot_express_is_refused(name: str, tmp_path: Path) -> None:
    layers, text = REFUSED[name]
    with pytest.raises(InputError, match=text):
        graphs(tmp_path / "a.net", layers)


def test_all_layers_that_cannot_be_expressed_are_named_at_once(tmp_path: Path) -> None:
    bad = [CONV | {"dilation": [0, 2]}, {"type": [b"pool"]}, DENSE | {"neuron": CUBA | {"refDelay": 9}}]
    with pytest.raises(InputError) as error:
        graphs(tmp_path / "a.net", bad)
    assert all(part in str(error.value) for part in ("layer/0 (conv)", "layer/1 (pool)", "layer/2 (dense)"))


def test_currents_that_can_leave_24_bits_are_refused(tmp_path: Path) -> None:
    layers = [{"type": [b"dense"], "shape": [2], "weight": np.full((2, 900), 200.0), "neuron": CUBA}]
    with pytest.raises(InputError, match=r"layer0\.current: its current can reach .* of 24 bits"):
        graphs(tmp_path / "a.net", layers, time_steps=12)


def test_steps_come_from_the_file_where_it_has_them(tmp_path: Path) -> None:
    network = read_netx(write(tmp_path / "a.net", tSample=9))
    made = graphs_of(network, NetxOptions())
    assert made.quantised.time_steps == 9 and made.notes == ("T is 9, tSample of the file's simulation",)
    assert graphs_of(network, NetxOptions(time_steps=4)).quantised.time_steps == 4


def test_the_shape_of_the_input_can_be_given(tmp_path: Path) -> None:
    strided = CONV | {"stride": [2, 2], "shape": [4, 3, 3]}
    wide = CONV | {"dilation": [2, 3], "shape": [4, 3, 4]}
    assert graphs(tmp_path / "a.net", [wide]).quantised.input.shape == (2, 5, 7)
    for shape in ((2, 5, 6), (2, 6, 7)):
        made = graphs(tmp_path / "a.net", [strided], input_shape=shape)
        assert made.quantised.input.shape == shape
        assert made.real.of_type(Conv2d)[0].sides.stride == (2, 2)


def test_files_that_hold_no_layers(tmp_path: Path) -> None:
    path = tmp_path / "a.net"
    change: Callable[[Any], object]
    for change, text in (
        (lambda file: file.create_group("layer"), "layer: is missing, or has no layers"),
        (lambda file: file.create_dataset("layer/1/type", data=b"dense"), "numbered from 0, and one is '1'"),
        (lambda file: file.create_dataset("layer/0/shape", data=3), "layer/0: type is missing, or no text"),
    ):
        with h5py.File(path, "w") as file:
            change(file)
        with pytest.raises(InputError, match=text):
            read_netx_here(path)


def test_a_file_is_compiled_run_checked_verified_and_converted(tmp_path: Path) -> None:
    path, out = write(tmp_path / "a.net"), tmp_path / "a.stas"

    assert "integer program with 8-bit weights" in fine("compile", path, "--time-steps", "6", "-o", out).out
    bundle = load_bundle(out)
    assert bundle.quantised is not None and bundle.quantised.of_type(FixedSynapticCurrent)
    images = spikes_for(bundle.quantised, 3).astype(np.float32)
    np.savez(tmp_path / "x.npz", images=images)
    fine("check", out, "--profile", "loihi2")
    fine("verify", out, "--data", tmp_path / "x.npz", "--arithmetic", "fixed")
    fine("convert", out, "--to", "netx", "--arithmetic", "fixed", "-o", tmp_path / "b.net")
    again = stas_neuro.open_model(tmp_path / "b.net")
    assert isinstance(again, Bundle) and again.quantised is not None
    ours = stas_neuro.run(bundle, images, arithmetic="fixed").logits
    np.testing.assert_array_equal(ours, stas_neuro.run(again, images, arithmetic="fixed").logits)
    lava = stas_neuro.run(bundle, images, arithmetic="fixed", backend="lava", granularity="layer").logits
    np.testing.assert_array_equal(ours, lava)
