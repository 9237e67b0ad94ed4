"""Quantised graphs in loops over whole numbers, one image at a time: docs/integer.md read aloud.

It shares nothing with the package but the graph. Values are int64 arrays, far wider than any bound.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stas_neuro.ir import Array, Graph, Phase

Key = tuple[str, str]


@dataclass
class Result:
    """What a run of one image gave."""

    logits: Array = field(default_factory=lambda: np.zeros(0))
    visits: Array = field(default_factory=lambda: np.zeros(0))
    spikes: dict[str, list[Array]] = field(default_factory=dict)
    states: dict[str, list[Array]] = field(default_factory=dict)
    events: dict[tuple[str, str, str], int] = field(default_factory=dict)
    """Counts by (kind, layer, label of the step), zeros left out."""


def run_oracle(graph: Graph, image: Array) -> Result:
    """Run one image of integers 0..255."""
    return _Oracle(graph, image).run()


def shift(value: int, bits: int) -> int:
    """To the left for bits above 0, else to the right, towards minus infinity."""
    return value << bits if bits > 0 else value >> -bits


def covered(node: Any, row: int, column: int) -> list[list[int]]:
    """List the rows and the columns of a window's taps, which may lie beyond the border."""
    places = []
    for side, place in enumerate((row, column)):
        kernel, stride, padding, dilation = (
            value[side] if isinstance(value, tuple) else value
            for value in (node.kernel, node.stride, node.padding, node.dilation)
        )
        places.append([place * stride - padding + tap * dilation for tap in range(kernel)])
    return places


def inside(node: Any, row: int, column: int, size: Any) -> Any:
    """Index the taps of a window that lie on a map of a size (H, W)."""
    ends = zip(covered(node, row, column), size, strict=True)
    return np.ix_(*([place for place in places if 0 <= place < end] for places, end in ends))


class _Oracle:
    def __init__(self, graph: Graph, image: Array) -> None:
        self.graph = graph
        self.image = np.asarray(image, np.int64)
        self.now: dict[Key, Array] = {}
        self.before: dict[Key, Array] = {}
        self.by_step: dict[Key, list[Array]] = {}
        """Values of stem nodes, all steps."""
        self.membranes: dict[str, Array] = {}
        self.currents: dict[str, Array] = {}
        self.columns: dict[str, Array] = {}
        """Of rectangular accumulators: the sum of their own scores over steps, by name."""
        self.visited: list[dict[str, Array]] = []
        """What reaches the readout, by step."""
        self.result = Result()
        steps, blocks = graph.time_steps, graph.blocks
        self.result.visits = np.ones((steps, blocks, graph.tokens), bool)

    def run(self) -> Result:
        graph = self.graph
        for node in graph.nodes:
            if node.phase == Phase.STEM:
                for step in range(graph.time_steps):
                    for port, value in self.evaluate(node, step).items():
                        self.by_step.setdefault((node.name, port), []).append(value)
            elif node.phase == Phase.ONCE:
                self.store(node, self.evaluate(node, 0))
        for step in range(graph.time_steps):
            for node in graph.nodes:
                if node.phase == Phase.STEP:
                    self.store(node, self.evaluate(node, step))
            readout = graph.readout
            self.visited.append({port: self.value(readout, port, step) for port in graph.inputs(readout)})
            self.note_visits(step)
            self.before = dict(self.now)
        for node in graph.nodes:
            if node.phase == Phase.END:
                self.store(node, self.evaluate(node, 0))
        return self.result

    def store(self, node: Any, outputs: dict[str, Array]) -> None:
        for port, value in outputs.items():
            self.now[node.name, port] = value

    def value(self, node: Any, port: str, step: int) -> Array:
        edge = self.graph.inputs(node)[port]
        key = edge.src, edge.src_port
        if edge.delay and step == 0:
            shape = self.graph.types[key].shape
            return np.zeros(shape, np.int64) if edge.dst_port == "total" else np.ones(shape, np.int64)
        if edge.delay:
            return self.before[key]
        if key in self.by_step:
            return self.by_step[key][step]
        return self.now[key]

    def note_visits(self, step: int) -> None:
        accumulators = self.graph.accumulators
        for block in range(self.graph.blocks):
            if not accumulators:
                continue
            node = accumulators[0] if accumulators[0].mode in ("time", "image") else accumulators[block]
            if "alive" in self.graph.inputs(node):
                self.result.visits[step, block] = self.value(node, "alive", step) == 1

    def evaluate(self, node: Any, step: int) -> dict[str, Array]:
        self.step = step
        self.label = {
            Phase.ONCE: "once", Phase.STEM: f"stem{step + 1}", Phase.STEP: f"step{step + 1}", Phase.END: "end"
        }[node.phase]  # fmt: skip
        kind = type(node).__name__.removeprefix("Fixed").lower()
        if kind == "integrate":
            edge = self.graph.inputs(node)["x"]
            return {"y": self.integrate(node, self.by_step[edge.src, edge.src_port])}
        if kind == "readout":
            return {"y": self.readout(node)}
        inputs = {port: self.value(node, port, step) for port in self.graph.inputs(node)}
        outputs = getattr(self, kind)(node, **inputs)
        return outputs if isinstance(outputs, dict) else {node.OUTPUTS[0]: outputs}

    def count(self, kind: str, node: Any, events: int, label: str = "") -> None:
        key = kind, node.name, label or self.label
        self.result.events[key] = self.result.events.get(key, 0) + int(events)

    def count_synapses(self, node: Any, values: list[int], port: str = "x") -> None:
        """Count one synapse for each value."""
        kind = str(self.graph.source_type(self.graph.inputs(node)[port]).kind)
        sent = [value for value in values if value != 0]
        if getattr(node, "off_core", False):
            self.count("cpu_operations", node, len(sent))
        elif kind in ("current", "number"):
            for label in self.supplied(node):
                self.count("macs", node, len(sent), label)
        else:
            self.count("synops", node, len(sent))
            self.count("synops_unary", node, sum(sent) if kind == "graded" else len(sent))

    def supplied(self, node: Any) -> list[str]:
        """Labels of the steps in which a layer brings its current to the one LIF that takes it."""
        takers = [self.graph.node(edge.dst) for edge in self.graph.consumers(node)]
        if node.phase == Phase.ONCE and len(takers) == 1 and takers[0].phase in (Phase.STEM, Phase.STEP):
            return [f"{takers[0].phase}{step + 1}" for step in range(self.graph.time_steps)]
        return [self.label]

    def tensor(self, node: Any, param: str) -> Array:
        return self.graph.tensor(node, param).astype(np.int64)

    # One method a node, called with the values at its ports.

    def input(self, node: Any) -> Array:
        return self.image if node.phase == Phase.ONCE else self.image[self.step]

    def synapses(self, node: Any, out: int, total: int) -> int:
        return shift(total, int(self.tensor(node, "weight_exp")[out])) << 6

    def sent(self, node: Any, x: Array) -> Array:
        """Round to multiples of 2^x_shift; halves go up."""
        step = 2**node.x_shift
        values = [(2 * int(value) + step) // (2 * step) for value in x.ravel()]
        return np.array(values, np.int64).reshape(x.shape)

    def conv2d(self, node: Any, x: Array) -> Array:
        channels, height, width = self.graph.types[node.name, "y"].shape
        weight, bias = self.tensor(node, "weight"), self.tensor(node, "bias")
        y = np.zeros((channels, height, width), np.int64)
        inputs, outputs = node.in_channels // node.groups, channels // node.groups
        touched: list[int] = []
        sent = self.sent(node, x)
        for row, column in itertools.product(range(height), range(width)):
            down, along = covered(node, row, column)
            taps = [
                (i, j)
                for i, j in itertools.product(range(len(down)), range(len(along)))
                if 0 <= down[i] < x.shape[1] and 0 <= along[j] < x.shape[2]
            ]
            for out in range(channels):
                first = out // outputs * inputs
                own = range(first, first + inputs)
                window = np.array([[x[c, down[i], along[j]] for c in own] for i, j in taps])
                window = window.reshape(len(taps), inputs)
                touched += window.ravel().tolist()
                mantissas = np.array([weight[out, :, i, j] for i, j in taps]).reshape(window.shape)
                taken = np.array([[sent[c, down[i], along[j]] for c in own] for i, j in taps])
                total = int((mantissas * taken.reshape(window.shape)).sum())
                own_bias = int(bias[out, row, column] if node.bias_map else bias[out])
                value = self.synapses(node, out, total) + (own_bias << node.bias_exp)
                if node.off_core:
                    value = (value >> node.bias_exp) << node.bias_exp
                y[out, row, column] = value
        self.count_synapses(node, touched)
        return y

    def linear(self, node: Any, x: Array, alive: Array | None = None) -> Array:
        weight, bias = self.tensor(node, "weight"), self.tensor(node, "bias")
        rows = x.reshape(-1, node.in_features)
        y = np.zeros((len(rows), node.out_features), np.int64)
        for n, row in enumerate(rows):
            if alive is not None and not alive[n]:
                assert not row.any(), "a halted token sends nothing"
                continue
            for out in range(node.out_features):
                total = int((weight[out] * self.sent(node, row)).sum())
                y[n, out] = self.synapses(node, out, total) + (int(bias[out]) << node.bias_exp)
            self.count_synapses(node, node.out_features * row.tolist())
        return y.reshape(*x.shape[:-1], node.out_features)

    def lif(self, node: Any, x: Array, alive: Array | None = None) -> Array:
        v = self.membranes.setdefault(node.name, np.zeros(x.shape, np.int64))
        spikes = np.zeros(x.shape, np.int64)
        for place in np.ndindex(x.shape):
            old = int(v[place])
            decayed = (abs(old) * (4096 - node.dv)) >> 12
            new = (decayed if old > 0 else -decayed) + int(x[place])
            if node.clips:
                new = max(-(2**23) + 1, min(new, 2**23 - 1))
            live = alive is None or bool(alive[place[0]])
            spikes[place] = new > (node.vth << 6) and (live or node.reset == "zero")
            left = 0 if node.reset == "zero" else new - 64 * (node.vth + (1 if node.fire == ">=" else 0))
            v[place] = left if spikes[place] else new
            if alive is not None and not alive[place[0]]:
                self.count("updates_gated", node, 1)
            elif x[place] or spikes[place]:
                self.count("updates_active", node, 1)
            else:
                self.count("updates_inactive", node, 1)
        self.count("spikes_out", node, spikes.sum())
        self.result.spikes.setdefault(node.name, []).append(spikes)
        self.result.states.setdefault(node.name, []).append(v.copy())
        return spikes

    def synapticcurrent(self, node: Any, x: Array) -> Array:
        u = self.currents.setdefault(node.name, np.zeros(x.shape, np.int64))
        y = np.zeros(x.shape, np.int64)
        for place in np.ndindex(x.shape):
            old = int(u[place])
            left = (abs(old) * (4096 - (node.du + 1))) // 4096
            u[place] = (left if old > 0 else -left) + int(x[place])
            feature = place[0] if x.ndim == 3 else place[1]
            bias = int(self.graph.tensor(node, "bias")[feature]) << node.bias_exp if node.bias else 0
            y[place] = u[place] + bias
        self.result.states.setdefault(node.name, []).append(u.copy())
        return y

    def spikemaxpool(self, node: Any, x: Array) -> Array:
        y = np.zeros(self.graph.types[node.name, "y"].shape, np.int64)
        for channel, row, column in np.ndindex(y.shape):
            y[channel, row, column] = x[channel][inside(node, row, column, x.shape[1:])].any()
        return y

    def maxpool(self, node: Any, x: Array) -> Array:
        y = np.zeros(self.graph.types[node.name, "y"].shape, np.int64)
        for channel, row, column in np.ndindex(y.shape):
            window = x[channel][inside(node, row, column, x.shape[1:])]
            y[channel, row, column] = max(window.ravel().tolist())
        return y

    def integrate(self, node: Any, steps: list[Array]) -> Array:
        y = np.zeros(steps[0].shape, np.int64)
        for place in np.ndindex(y.shape):
            values = [int(x[place]) for x in steps]
            if node.mode == "max":
                y[place] = max(values)
            elif node.mode == "learned":
                weights = self.tensor(node, "weights").tolist()
                y[place] = sum(w * x for w, x in zip(weights, values, strict=True)) >> node.shift
            else:
                y[place] = sum(values)
        return y

    def tokens(self, node: Any, x: Array) -> Array:
        return np.array([x[:, row, column] for row, column in np.ndindex(x.shape[1:])])

    def map(self, node: Any, x: Array) -> Array:
        y = np.zeros((x.shape[1], node.height, node.width), np.int64)
        for row, column in np.ndindex(y.shape[1:]):
            y[:, row, column] = x[row * node.width + column]
        return y

    def slice(self, node: Any, x: Array) -> Array:
        axis = 0 if x.ndim == 3 else x.ndim - 1
        return np.stack([np.take(x, channel, axis) for channel in range(node.start, node.stop)], axis)

    def tokenmean(self, node: Any, x: Array) -> Array:
        sent = self.sent(node, x)
        return np.array([[sum(int(value) for value in sent[:, channel]) for channel in range(x.shape[1])]])

    def add(self, node: Any, a: Array, b: Array) -> Array:
        return node.a_weight * a + node.b_weight * b

    def gate(self, node: Any, x: Array, mask: Array) -> Array:
        if node.axis != "token":
            self.count_synapses(node, x.ravel().tolist())
        y = np.zeros(x.shape, np.int64)
        for token, channel in np.ndindex(x.shape):
            own: Any = {"token": token, "channel": channel}.get(node.axis)
            if node.axis == "head":
                own = token, channel * mask.shape[1] // x.shape[1]
            if mask[own]:
                y[token, channel] = x[token, channel]
        return y

    def spikeand(self, node: Any, a: Array, b: Array) -> Array:
        y = np.zeros(a.shape, np.int64)
        for place in np.ndindex(a.shape):
            if a[place]:
                self.count("synops", node, 1)
                self.count("synops_unary", node, 1)
                y[place] = bool(b[place]) != node.invert
        return y

    def spikematmul(self, node: Any, q: Array, k: Array, v: Array) -> Array:
        tokens, features = q.shape
        size = features // node.heads
        y = np.zeros(q.shape, np.int64)
        for head in range(node.heads):
            own = range(head * size, (head + 1) * size)
            for i, j in itertools.product(range(tokens), repeat=2):
                pairs = sum(int(q[i, c] * k[j, c]) for c in own)
                for channel in own:
                    y[i, channel] += pairs * v[j, channel]
                if node.form == "(QK^T)V":
                    values = sum(int(v[j, c]) for c in own)
                    self.count("synops", node, pairs + (values if pairs else 0))
                    self.count("synops_unary", node, pairs + values * pairs)
        if node.form == "Q(K^TV)":
            together = sum(
                int(k[n, a] * v[n, b])
                for n, a, b in itertools.product(range(tokens), range(features), range(features))
                if a // size == b // size
            )
            for kind in ("synops", "synops_unary"):
                self.count(kind, node, together + q.sum() * size)
        return y << (6 + node.exponent)

    def maskedcolumnsum(self, node: Any, k: Array, v: Array) -> Array:
        y = np.zeros(k.shape[1], np.int64)
        for token, channel in np.ndindex(k.shape):
            if k[token, channel] and v[token, channel]:
                y[channel] += 1
                self.count("synops", node, 1)
                self.count("synops_unary", node, 1)
        return y << (6 + node.exponent)

    def headsum(self, node: Any, x: Array) -> Array:
        y = np.zeros((len(x), node.heads), np.int64)
        for token, channel in np.ndindex(x.shape):
            if x[token, channel]:
                y[token, channel // (x.shape[1] // node.heads)] += 1
                self.count("synops", node, 1)
                self.count("synops_unary", node, 1)
        return y << (6 + node.exponent)

    def haltingscore(self, node: Any, z: Array) -> Array:
        table = self.tensor(node, "table")
        accumulator = self.graph.node(self.graph.consumers(node)[0].dst)
        masked = "alive" in self.graph.inputs(accumulator)
        mask = self.value(accumulator, "alive", self.step) if masked else np.ones(len(z))
        self.count("score_lookups", node, mask.sum())
        first = [int(x) for x in z[:, 0]]
        if node.groups:
            sums = dict.fromkeys(node.groups, 0)
            for group, value in zip(node.groups, first, strict=True):
                sums[group] += value
            first = [sums[group] for group in node.groups]
        places = [min(max(x >> node.shift, node.low), node.low + node.entries - 1) for x in first]
        return np.array([table[place - node.low] for place in places])

    def imagescore(self, node: Any, z: Array) -> Array:
        accumulator = self.graph.node(self.graph.consumers(node)[0].dst)
        mask = self.value(accumulator, "alive", self.step)
        self.count("score_lookups", node, mask.sum())
        self.count_synapses(node, node.classes * z[mask != 0].ravel().tolist(), "z")
        weight, bias = self.tensor(node, "weight"), self.tensor(node, "bias")
        sums = self.columns.setdefault(node.name, np.zeros(node.classes, np.int64))
        for label in range(node.classes):
            total = 0
            for n, channel in np.ndindex(z.shape):
                value = min(max(int(z[n, channel]) >> node.z_shift, -node.z_limit), node.z_limit)
                total += int(weight[label, channel]) * value
            sums[label] += (total >> node.shift) + (int(bias[label]) << node.bias_exp)
        second, first = sorted(sums.tolist())[-2:]
        steps = 1 if node.summed else self.step + 1
        clear = first - second >= steps * node.threshold
        return np.full(len(z), (1 << node.score_bits) if clear else 0)

    def haltaccumulate(
        self, node: Any, score: Array, alive: Array | None = None, total: Array | None = None
    ) -> dict[str, Array]:
        tokens = len(score)
        alive = np.ones(tokens, np.int64) if alive is None else alive
        total = np.zeros(tokens, np.int64) if total is None else total
        open_after, new_total, p = (np.zeros(tokens, np.int64) for _ in range(3))
        column = self.columns.setdefault(node.name, np.zeros(tokens, np.int64))
        closed = node.closes is not None and node.closes <= self.step
        for n in range(tokens):
            h, before = int(score[n]), int(total[n])
            if node.mode == "rectangular":
                column[n] += h if alive[n] else 0
                new_total[n] = before + column[n]
                open_after[n] = alive[n] and new_total[n] < node.limit and not closed
                p[n] = h if alive[n] else 0
                continue
            new_total[n] = before
            if not alive[n]:
                continue
            new_total[n] = before + h
            last = node.last_block and (node.mode == "block" or self.step == self.graph.time_steps - 1)
            if node.mode == "image":
                open_after[n] = before + h < node.limit and not closed
                p[n] = 1 << node.score_bits
                continue
            open_after[n] = before + h < node.limit and not last and not closed
            p[n] = h if open_after[n] else (1 << node.score_bits) - before
        self.result.states.setdefault(node.name, []).append(new_total.copy())
        return {"alive": open_after, "total": new_total, "p": p}

    def readout(self, node: Any) -> Array:
        last = f"z{node.blocks - 1}"
        tokens, features = self.visited[0][last].shape
        y = np.zeros(features, np.int64)
        for n, channel in itertools.product(range(tokens), range(features)):
            y[channel] += self.read_token(node, n, channel)
        for step, inputs in enumerate(self.visited):
            weights = [value for port, value in inputs.items() if port.startswith("p")]
            if weights:
                self.count("readout_macs", node, features * np.count_nonzero(weights), f"step{step + 1}")
        if node.normalise or node.mode == "rate":
            self.count("cpu_operations", node, tokens * features, f"step{self.graph.time_steps}")
        return y >> node.y_shift

    def read_token(self, node: Any, n: int, channel: int) -> int:
        total = weight = latest = 0
        for inputs in self.visited:
            entered = False
            for block in range(node.blocks):
                if f"z{block}" not in inputs:
                    continue
                z = int(inputs[f"z{block}"][n, channel]) >> node.z_shift
                z = min(max(z, -node.z_limit), node.z_limit)
                if node.mode == "mean-field":
                    p = int(inputs[f"p{block}"][n]) if f"p{block}" in inputs else 1
                    total, weight = total + p * z, weight + p
                elif f"alive{block}" not in inputs or inputs[f"alive{block}"][n]:
                    latest, entered = z, True
            if node.mode == "rate" and entered:
                total, weight = total + latest, weight + 1
        if node.mode == "last-state":
            return latest
        if not (node.normalise or node.mode == "rate"):
            return total
        quotient = (abs(total) << node.divide_bits) // max(weight, 1)
        return quotient if total > 0 else -quotient

    def output(self, node: Any, x: Array) -> dict[str, Array]:
        self.result.logits = np.array([float(int(value)) * node.unit for value in x])
        return {}


def assert_is(result: Result, trace: Any, index: int) -> None:
    """Require that image `index` of a trace, spikes and states recorded, is what the oracle gave."""
    np.testing.assert_array_equal(trace.logits[index], result.logits)
    np.testing.assert_array_equal(trace.visits[index], result.visits)
    for what in ("states", "spikes"):
        theirs, ours = getattr(result, what), getattr(trace, what)
        assert theirs.keys() == ours.keys()
        for name, steps in theirs.items():
            np.testing.assert_array_equal(ours[name][index], np.array(steps), err_msg=f"{what} of {name}")
    activity = trace.activity
    counted = {
        (kind, layer.name, label): int(counts[index, at, step])
        for kind, counts in activity.counts.items()
        for at, layer in enumerate(activity.layers)
        for step, label in enumerate(activity.steps)
        if counts[index, at, step]
    }
    assert counted == {key: events for key, events in result.events.items() if events}
