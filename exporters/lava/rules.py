"""What a network has to keep to so that it can be run: a file may say anything.

Every layer is a known process with its parameters, ports and arrays; shapes fit; values arrive before they
are needed; and nothing is larger than the arrays or the limits below allow. The IR has such rules of its own:
this is what an exported package, which has no IR, knows of them.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .documents import BadDocument, shown
from .network import FIXED, FLOAT, Layer, Network, Shape
from .policies import POLICIES
from .schedule import DELAYED, HELD, Schedule

MOST_STEPS, MOST_LAYERS = 1024, 4096
LONGEST_SIDE, MOST_VALUES = 1 << 14, 1 << 28
"""Pixels along a side of an image, and values that a process holds at a time."""
LARGEST_WINDOW = 64
"""Pixels along a side of a kernel, or of the padding or the stride."""
WORD = 2**31 - 1
LARGEST, LEAST_STD = 1e12, 1e-6
"""Magnitude of a float, and deviation of pixels: sums of products of these stay finite."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,199}")
"""Of layers: records of processes are files of these names."""
KINDS = ("current", "number", "spike", "graded", "membrane", "score", "mask")
_PHASES: Mapping[str, tuple[str, ...]] = {
    "Input": ("once", "stem", "step"),
    "Integrate": ("once",),
    "HaltingScore": ("step",),
    "HaltAccumulate": ("step",),
    "LateHaltAccumulate": ("step",),
    "Readout": ("end",),
    "Output": ("end",),
}
"""Of the processes that cannot be in all of them."""
_ANY_PHASE = ("once", "stem", "step", "end")
_DELAYED = ("alive", "total", "mask")
"""Input ports that may take a value of the step before: they have one before the first."""

Rule = tuple[Callable[[Any], bool], str]


def _whole(low: int, high: int) -> Rule:
    return lambda value: type(value) is int and low <= value <= high, f"a whole number in {low}..{high}"


def _number(low: float = -LARGEST, high: float = LARGEST) -> Rule:
    words = f"a number in {low:g}..{high:g}"
    return lambda value: type(value) in (int, float) and low <= value <= high, words


def _one_of(*words: str) -> Rule:
    return lambda value: isinstance(value, str) and value in words, f"one of {', '.join(words)}"


def _wholes(low: int, high: int, *lengths: int) -> Rule:
    def holds(value: Any) -> bool:
        fits = isinstance(value, tuple) and (not lengths or len(value) in lengths)
        return fits and all(type(item) is int and low <= item <= high for item in value)

    return (
        holds,
        f"a list of {' or '.join(map(str, lengths)) or 'any number of'} whole numbers in {low}..{high}",
    )


_POSITIVE: Rule = (lambda value: _number()[0](value) and value > 0, f"a number above 0, up to {LARGEST:g}")
_SHARE: Rule = (lambda value: _number()[0](value) and 0 <= value < 1, "a number of at least 0 and below 1")
_FLAG: Rule = (lambda value: isinstance(value, bool), "true or false")
_SIZE, _WINDOW, _SHIFT, _EXPONENT = _whole(1, WORD), _whole(1, LARGEST_WINDOW), _whole(0, 31), _whole(0, 7)
_MODE = _one_of(*POLICIES)
_WEIGHTS = {"weight_bits": _whole(1, 9), "bias_exp": _EXPONENT}
_POOL = {"kernel": _WINDOW, "stride": _WINDOW, "padding": _whole(0, LARGEST_WINDOW)}
_CONV = {"in_channels": _SIZE, "out_channels": _SIZE, **_POOL, "bias": _FLAG}
_LINEAR = {"in_features": _SIZE, "out_features": _SIZE, "bias": _FLAG}
_PRODUCT = {"heads": _SIZE, "form": _one_of("(QK^T)V", "Q(K^TV)")}
_HALTING = {"mode": _MODE, "last_block": _FLAG}
_LATE_HALTING = {
    "mode": _one_of("raster", "time"),
    "last_block": _FLAG,
    "late": _whole(1, WORD),
    "lags": _wholes(0, WORD),
}
_BITS = {"score_bits": _whole(1, 14), "limit": _whole(0, WORD)}
_READOUT = {
    "mode": _one_of("mean-field", "last-state", "rate"),
    "blocks": _whole(1, MOST_LAYERS),
    "normalise": _FLAG,
}
_INPUT = {"shape": _wholes(1, LONGEST_SIDE, 3)}
_INTEGRATE = {"mode": _one_of("max", "mean", "sum", "learned")}
_PARAMS: Mapping[str, Mapping[str, Mapping[str, Rule]]] = {
    FLOAT: {
        "Input": _INPUT,
        "Conv2d": _CONV,
        "Linear": _LINEAR,
        "LIF": {"tau": _number(1), "threshold": _POSITIVE, "fire": _one_of(">", ">=")},
        "SpikeMaxPool": _POOL,
        "Integrate": _INTEGRATE,
        "Tokens": {},
        "Add": {},
        "SpikeMatMul": _PRODUCT | {"scale": _POSITIVE},
        "MaskedColumnSum": {},
        "Gate": {"axis": _one_of("token", "channel")},
        "HaltingScore": {"alpha": _number(), "beta": _number()},
        "HaltAccumulate": _HALTING | {"epsilon": _SHARE},
        "LateHaltAccumulate": _LATE_HALTING | {"epsilon": _SHARE},
        "Readout": _READOUT,
        "Output": {},
    },
    FIXED: {
        "Input": _INPUT | {"encoding": _one_of("graded", "bias")},
        "Conv2d": _CONV | _WEIGHTS | {"bias_map": _wholes(1, WORD, 0, 2), "off_core": _FLAG},
        "Linear": _LINEAR | _WEIGHTS,
        "LIF": {"fire": _one_of(">"), "dv": _whole(0, 4095), "vth": _whole(0, 2**17 - 1)},
        "SpikeMaxPool": _POOL,
        "Integrate": _INTEGRATE | {"shift": _SHIFT},
        "Tokens": {},
        "Add": {"a_weight": _whole(1, 256), "b_weight": _whole(1, 256)},
        "SpikeMatMul": _PRODUCT | {"exponent": _EXPONENT},
        "MaskedColumnSum": {"exponent": _EXPONENT},
        "Gate": {"axis": _one_of("token", "channel")},
        "HaltingScore": {"shift": _SHIFT, "low": _whole(-(2**15), 2**15), "entries": _whole(1, 2**16)},
        "HaltAccumulate": _HALTING | _BITS,
        "LateHaltAccumulate": _LATE_HALTING | _BITS,
        "Readout": _READOUT
        | {"z_shift": _SHIFT, "z_limit": _whole(1, WORD), "divide_bits": _SHIFT, "y_shift": _SHIFT},
        "Output": {"unit": _POSITIVE},
    },
}
"""Parameters of each process, by arithmetic."""
_INPUTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Input": ((), ()),
    "Linear": (("x",), ("alive",)),
    "LIF": (("x",), ("alive",)),
    "Add": (("a", "b"), ()),
    "SpikeMatMul": (("q", "k", "v"), ()),
    "MaskedColumnSum": (("k", "v"), ()),
    "Gate": (("x", "mask"), ()),
    "HaltingScore": (("z",), ("alive",)),
    "HaltAccumulate": (("score",), ("alive", "total")),
    "LateHaltAccumulate": (("score", "alive", "total"), ()),
}
"""Input ports that have to be connected and those that may be, where they are others than x and none."""
_INT16_RANGES = {"weight": (-256, 255), "weight_exp": (-8, 7), "bias": (-4095, 4095)}
"""Of the arrays of a fixed network; the others take all of int16."""


def check_network(network: Network) -> None:
    """Raise BadDocument where a network cannot be run, with the first place that is wrong."""
    _check_whole(network)
    for layer in network.layers:
        _check_layer(network, layer)
    _check_wires(network)
    for layer in network.layers:
        _check_shapes(network, layer)
    _check_tensors(network)
    _check_halting(network)
    _check_order(network)
    for key in network.cores:
        _check_core(network, key)


def _require(holds: bool, what: str, *place: str) -> None:
    if not holds:
        raise BadDocument(what, place)


def _is(value: Any, rule: Rule, *place: str) -> None:
    holds, words = rule
    _require(holds(value), f"is {shown(repr(value))}, it must be {words}", *place)


def _check_whole(network: Network) -> None:
    _is(network.arithmetic, _one_of(FLOAT, FIXED), "arithmetic")
    _is(network.time_steps, _whole(1, MOST_STEPS), "time_steps")
    _require(bool(network.classes), "there is none", "classes")
    for index, name in enumerate(network.classes):
        _require(
            name.isprintable(), f"is {shown(repr(name))}, it must be a text that prints", f"classes.{index}"
        )
    for values, word in ((network.mean, "mean"), (network.std, "std")):
        rule = _number(LEAST_STD) if word == "std" else _number()
        for index, value in enumerate(values):
            _is(value, rule, f"preprocessing.{word}.{index}")
    _require(
        len(network.layers) <= MOST_LAYERS, f"are {len(network.layers)}, at most {MOST_LAYERS}", "layers"
    )
    names = Counter(layer.name for layer in network.layers)
    for name, count in names.items():
        _require(_NAME.fullmatch(name) is not None, f"{shown(name)!r} is no name of one", "layers")
        _require(count == 1, f"{count} have the name", "layers", name)
    for op in ("Input", "Readout", "Output"):
        count = len(network.of_op(op))
        _require(count == 1, f"{count} are of op {op}, it must be 1", "layers")


def _check_layer(network: Network, layer: Layer) -> None:
    rules = _PARAMS[network.arithmetic].get(layer.op)
    if rules is None:
        raise BadDocument(f"is {shown(layer.op)!r}, which is no process", (layer.name, "op"))
    _is(layer.phase, _one_of(*_PHASES.get(layer.op, _ANY_PHASE)), layer.name, "phase")
    for key in sorted(rules.keys() ^ layer.params.keys()):
        what = "is missing" if key in rules else "is unknown"
        raise BadDocument(what, (layer.name, shown(key)))
    for key, rule in rules.items():
        _is(layer.params[key], rule, layer.name, key)
    for port, value in layer.outputs.items():
        _is(value.kind, _one_of(*KINDS), layer.name, shown(port), "kind")


def _ports(layer: Layer) -> tuple[set[str], set[str]]:
    """Give the input ports that have to be connected, and those that may be."""
    if layer.op == "Readout":
        blocks = range(layer.params["blocks"])
        every = {f"{port}{block}" for port in ("z", "alive", "p") for block in blocks}
        last = f"z{blocks[-1]}"
        return {last}, every - {last}
    required, optional = _INPUTS.get(layer.op, (("x",), ()))
    return set(required), set(optional)


def _check_wires(network: Network) -> None:
    layers = {layer.name: layer for layer in network.layers}
    places = {layer.name: place for place, layer in enumerate(network.layers)}
    ports = {layer.name: _ports(layer) for layer in network.layers}
    connected: dict[str, set[str]] = {name: set() for name in layers}
    for index, wire in enumerate(network.wires):
        where = f"wires.{index}"
        for name in (wire.src, wire.dst):
            _require(name in layers, f"there is no layer {shown(name)!r}", where)
        _require(
            wire.src_port in layers[wire.src].outputs, f"{wire.src} has no {shown(wire.src_port)!r}", where
        )
        required, optional = ports[wire.dst]
        _require(wire.dst_port in required | optional, f"{wire.dst} has no {shown(wire.dst_port)!r}", where)
        _require(
            wire.dst_port not in connected[wire.dst], f"{wire.dst}.{wire.dst_port} is connected twice", where
        )
        connected[wire.dst].add(wire.dst_port)
        _is(wire.delay, _whole(0, int(wire.dst_port.rstrip("0123456789") in _DELAYED)), where, "delay")
        _require(
            bool(wire.delay) or places[wire.src] < places[wire.dst],
            f"{wire.src} comes after {wire.dst}: order the layers, or delay the wire by a step",
            where,
        )
    for name, (required, _) in ports.items():
        for port in sorted(required - connected[name]):
            raise BadDocument("is not connected", (name, port))


# Shapes -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Site:
    """A layer with the shapes that arrive at its input ports."""

    network: Network
    layer: Layer
    inputs: Mapping[str, Shape]

    @property
    def params(self) -> Mapping[str, Any]:
        return self.layer.params

    def take(self, port: str, *ranks: int) -> Shape:
        """Give the shape at a port, which has so many axes."""
        shape = self.inputs[port]
        words = " or ".join(map(str, ranks))
        self.require(len(shape) in ranks, f"has shape {shape}, it must have {words} axes", port)
        return shape

    def alike(self, port: str, wanted: Shape) -> None:
        """Require a shape at a port, if that is connected."""
        found = self.inputs.get(port, wanted)
        self.require(found == wanted, f"has shape {found}, it must be {wanted}", port)

    def require(self, holds: bool, what: str, *place: str) -> None:
        _require(holds, what, self.layer.name, *place)


def _input(site: _Site) -> dict[str, Shape]:
    shape: Shape = site.params["shape"]
    for values, word in ((site.network.mean, "mean"), (site.network.std, "std")):
        what = f"has {len(values)} numbers for {shape[0]} channels"
        _require(len(values) == shape[0], what, "preprocessing", word)
    return {"y": shape}


def _window(site: _Site, shape: Shape) -> Shape:
    kernel, stride, padding = (site.params[key] for key in ("kernel", "stride", "padding"))
    site.require(padding < kernel, f"is {padding}, the kernel {kernel}", "padding")
    sides = tuple((side + 2 * padding - kernel) // stride + 1 for side in shape[1:])
    site.require(min(sides) > 0, f"has shape {shape}, smaller than the window", "x")
    return sides


def _conv(site: _Site) -> dict[str, Shape]:
    shape = site.take("x", 3)
    site.require(shape[0] == site.params["in_channels"], f"has shape {shape}", "x")
    sides = _window(site, shape)
    kernel = site.params["kernel"]
    _check_size(site, "kernel", (shape[0], kernel, kernel, *sides))
    if mapped := site.params.get("bias_map"):
        site.require(mapped == sides, f"is {mapped}, the output has sides {sides}", "bias_map")
    return {"y": (site.params["out_channels"], *sides)}


def _linear(site: _Site) -> dict[str, Shape]:
    shape = site.take("x", 1, 2)
    site.require(shape[-1] == site.params["in_features"], f"has shape {shape}", "x")
    if "alive" in site.inputs:
        site.take("x", 2)
        site.alike("alive", shape[:1])
    return {"y": (*shape[:-1], site.params["out_features"])}


def _lif(site: _Site) -> dict[str, Shape]:
    shape = site.take("x", 1, 2, 3)
    if "alive" in site.inputs:
        site.take("x", 2)
        site.alike("alive", shape[:1])
    return {"s": shape}


def _pool(site: _Site) -> dict[str, Shape]:
    shape = site.take("x", 3)
    return {"y": (shape[0], *_window(site, shape))}


def _same(site: _Site) -> dict[str, Shape]:
    return {"y": site.inputs["x"]}


def _tokens(site: _Site) -> dict[str, Shape]:
    channels, height, width = site.take("x", 3)
    return {"y": (height * width, channels)}


def _add(site: _Site) -> dict[str, Shape]:
    site.alike("b", site.inputs["a"])
    return {"y": site.inputs["a"]}


def _product(site: _Site) -> dict[str, Shape]:
    shape = site.take("q", 2)
    site.alike("k", shape)
    site.alike("v", shape)
    heads = site.params["heads"]
    site.require(shape[1] % heads == 0, f"is {heads}, which does not divide {shape[1]} channels", "heads")
    if not site.params["form"].startswith("Q("):
        _check_size(site, "form", (heads, shape[0], shape[0]))
    return {"y": shape}


def _column_sum(site: _Site) -> dict[str, Shape]:
    shape = site.take("k", 2)
    site.alike("v", shape)
    return {"y": shape[1:]}


def _gate(site: _Site) -> dict[str, Shape]:
    shape = site.take("x", 2)
    site.alike("mask", shape[:1] if site.params["axis"] == "token" else shape[1:])
    return {"y": shape}


def _score(site: _Site) -> dict[str, Shape]:
    shape = site.take("z", 2)
    site.alike("alive", shape[:1])
    return {"h": shape[:1]}


def _accumulate(site: _Site) -> dict[str, Shape]:
    shape = site.take("score", 1)
    site.alike("alive", shape)
    site.alike("total", shape)
    return {"alive": shape, "total": shape, "p": shape}


def _accumulate_late(site: _Site) -> dict[str, Shape]:
    shape = site.take("score", 1)
    site.alike("alive", shape)
    lags, wanted = site.params["lags"], len(site.network.accumulators)
    site.require(len(lags) == wanted, f"has {len(lags)} numbers, it must have {wanted}", "lags")
    total = (site.network.time_steps * wanted, *shape)
    site.alike("total", total)
    return {"alive": shape, "total": total, "p": shape}


def _readout(site: _Site) -> dict[str, Shape]:
    shape = site.take(f"z{site.params['blocks'] - 1}", 2)
    for port in site.inputs:
        block = "".join(filter(str.isdigit, port))
        site.require(f"z{block}" in site.inputs, f"is connected without z{block}", port)
        site.alike(port, shape if port.startswith("z") else shape[:1])
    return {"y": shape[1:]}


def _output(site: _Site) -> dict[str, Shape]:
    site.alike("x", (len(site.network.classes),))
    return {}


_OUTPUTS: Mapping[str, Callable[[_Site], dict[str, Shape]]] = {
    "Input": _input,
    "Conv2d": _conv,
    "Linear": _linear,
    "LIF": _lif,
    "SpikeMaxPool": _pool,
    "Integrate": _same,
    "Tokens": _tokens,
    "Add": _add,
    "SpikeMatMul": _product,
    "MaskedColumnSum": _column_sum,
    "Gate": _gate,
    "HaltingScore": _score,
    "HaltAccumulate": _accumulate,
    "LateHaltAccumulate": _accumulate_late,
    "Readout": _readout,
    "Output": _output,
}
"""Shapes that a process sends, from those that it receives."""


def _check_shapes(network: Network, layer: Layer) -> None:
    """Compare the shapes that a layer is said to send with those that follow from what it receives.

    Those are what their senders are said to send: every layer is checked, so all hold or one does not.
    """
    site = _Site(network, layer, _inputs(network, layer))
    wanted = _OUTPUTS[layer.op](site)
    given = {port: value.shape for port, value in layer.outputs.items()}
    for port in sorted(wanted.keys() | given.keys()):
        words = [shown(str(shapes.get(port, "absent"))) for shapes in (given, wanted)]
        site.require(
            given.get(port) == wanted.get(port), f"is {words[0]}, it must be {words[1]}", port, "shape"
        )
    for port, shape in wanted.items():
        _check_size(site, port, shape)


def _inputs(network: Network, layer: Layer) -> dict[str, Shape]:
    return {
        wire.dst_port: network.layer(wire.src).outputs[wire.src_port].shape
        for wire in network.wires_into(layer.name)
    }


def _check_size(site: _Site, place: str, shape: Shape) -> None:
    what = f"has shape {shape}, at most {MOST_VALUES} values are held"
    site.require(math.prod(shape) <= MOST_VALUES, what, place)


# Arrays -------------------------------------------------------------------------------------------------


def _arrays(network: Network, layer: Layer) -> dict[str, Shape]:
    """Give the shapes of the arrays that a layer has, by name."""
    params = layer.params
    fixed = network.arithmetic == FIXED
    if layer.op == "Integrate" and params["mode"] == "learned":
        return {"weights": (network.time_steps,)}
    if layer.op == "HaltingScore" and fixed:
        return {"table": (params["entries"],)}
    if layer.op == "Conv2d":
        out, kernel = params["out_channels"], params["kernel"]
        weight: Shape = (out, params["in_channels"], kernel, kernel)
    elif layer.op == "Linear":
        out = params["out_features"]
        weight = (out, params["in_features"])
    else:
        return {}
    arrays = {"weight": weight}
    if fixed:
        arrays |= {"weight_exp": (out,)}
    if fixed or params["bias"]:
        arrays |= {"bias": (out, *params.get("bias_map", ()))}
    return arrays


def _check_tensors(network: Network) -> None:
    fixed = network.arithmetic == FIXED
    dtype = np.dtype(np.int16 if fixed else np.float64)
    wanted = {
        f"{layer.name}/{name}": shape
        for layer in network.layers
        for name, shape in _arrays(network, layer).items()
    }
    for key in sorted(wanted.keys() ^ network.tensors.keys()):
        raise BadDocument("is missing" if key in wanted else "is of no layer", (shown(key),))
    for key, shape in wanted.items():
        array = network.tensors[key]
        _require(
            (array.shape, array.dtype) == (shape, dtype),
            f"is {array.dtype} of shape {shown(str(array.shape))}, it must be {dtype} of shape {shape}",
            key,
        )
        low, high = -LARGEST, LARGEST
        if fixed:
            low, high = _INT16_RANGES.get(key.rpartition("/")[2], (-(2**15), 2**15 - 1))
        # A comparison with NaN never holds.
        inside = bool(((array >= low) & (array <= high)).all())
        _require(inside, f"holds values outside {low:g}..{high:g}, or NaN", key)


# Time ---------------------------------------------------------------------------------------------------


def _check_halting(network: Network) -> None:
    """Require as many accumulators as what they decide has, all of as many tokens."""
    accumulators = network.accumulators
    (readout,) = network.of_op("Readout")
    blocks = readout.params["blocks"]
    wanted = {0, blocks} | {1 for layer in accumulators if layer.params["mode"] == "time"}
    what = f"{len(accumulators)} are of op HaltAccumulate, {blocks} blocks are read"
    _require(len(accumulators) in wanted, what, "layers")
    visits = (network.time_steps, blocks, _inputs(network, readout)[f"z{blocks - 1}"][0])
    what = f"{visits} visits of tokens are more than the {MOST_VALUES} that are held"
    _require(math.prod(visits) <= MOST_VALUES, what, readout.name, "blocks")
    for layer in accumulators:
        shapes = (layer.outputs["alive"].shape, accumulators[0].outputs["alive"].shape)
        _require(shapes[0] == shapes[1], f"has shape {shapes[0]}, others {shapes[1]}", layer.name, "alive")


def _check_order(network: Network) -> None:
    """Require that every message is sent before it is needed, and as often."""
    schedule = Schedule.of(network)
    for index, wire in enumerate(network.wires):
        sender, receiver = (schedule.windows[name] for name in (wire.src, wire.dst))
        arrival = schedule.arrival(wire, network.layer(wire.src))
        sent = sender.first + sender.steps - 1
        fits = sent <= receiver.first if arrival == HELD else sender == receiver
        late = " a step late" if arrival == DELAYED else ""
        what = f"{wire.src} sends in other steps than {wire.dst} receives in{late}: mend their phases"
        _require(fits, what, f"wires.{index}")


def _check_core(network: Network, key: str) -> None:
    """Check what a layer is told of its cores, see `processes.place.Place`."""
    name, _, what = key.rpartition("/")
    layers = {layer.name: layer for layer in network.layers}
    _require(name in layers and what in ("piece", "wakers", "sends"), "is of no layer", shown(key))
    layer, array = layers[name], network.cores[key]
    neurons = next((value.shape for value in layer.outputs.values()), ())
    if what == "sends":
        _require(array.shape == (), f"has shape {array.shape}", key)
        return
    piece = network.cores.get(f"{name}/piece")
    if piece is None:
        raise BadDocument("is missing", (f"{name}/piece",))
    if what == "piece":
        fits = array.shape == neurons and array.dtype.kind in "iu"
        _require(fits, f"is {array.dtype} of shape {array.shape}, it must be whole of shape {neurons}", key)
        inside = array.min() >= 0 and array.max() < array.size
        _require(bool(inside), f"holds numbers outside 0..{array.size - 1}", key)
        what = f"is of {int(array.max()) + 1} pieces of {array.size} neurons, too many"
        _require((int(array.max()) + 1) * array.size <= MOST_VALUES, what, key)
        return
    _require(len(neurons) == 2, "is of a layer without tokens", key)
    wanted = (int(piece.max()) + 1, neurons[0] + 1)
    fits = array.dtype == np.bool_ and array.shape == wanted
    _require(fits, f"is {array.dtype} of shape {array.shape}, it must be bool of shape {wanted}", key)
