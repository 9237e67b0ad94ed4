"""Makes the integers: what each value stands for, how far it reaches, and what each node becomes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from stas_neuro.errors import InputError
from stas_neuro.ir import (
    ALIGN,
    BIAS_LIMIT,
    EVENTS,
    LIF,
    PIXEL_LIMIT,
    WORD_LIMIT,
    Add,
    Array,
    BatchNorm,
    Conv2d,
    FixedAdd,
    FixedConv2d,
    FixedHaltAccumulate,
    FixedHaltingScore,
    FixedHeadSum,
    FixedImageScore,
    FixedInput,
    FixedIntegrate,
    FixedLateHaltAccumulate,
    FixedLIF,
    FixedLinear,
    FixedMaskedColumnSum,
    FixedOutput,
    FixedReadout,
    FixedSpikeMatMul,
    FixedSynapticCurrent,
    FixedTokenMean,
    Gate,
    Graph,
    HaltAccumulate,
    HaltingScore,
    HeadSum,
    ImageScore,
    Input,
    Integrate,
    IRError,
    Kind,
    LateHaltAccumulate,
    Linear,
    Map,
    MaskedColumnSum,
    MaxPool,
    Node,
    Output,
    Problem,
    Problems,
    Range,
    Readout,
    Slice,
    SpikeAnd,
    SpikeMatMul,
    SpikeMaxPool,
    Stage,
    Synaptic,
    SynapticCurrent,
    TokenMean,
    Tokens,
    current_range,
    op_of,
    per_op,
    synaptic_ranges,
)
from stas_neuro.passes.groups import UnitGroup, unit_groups
from stas_neuro.passes.halting_integers import ReadoutPlan, plan_image_score, plan_readout, score_table
from stas_neuro.passes.scales import (
    EXPONENT_LIMIT,
    PLAIN_BIAS_EXP,
    LayerScale,
    Limits,
    Synapses,
    fit_group,
    mantissas,
    without_exponents,
)
from stas_neuro.passes.sums import Sums, rounding_shift, sums_of
from stas_neuro.passes.walk_order import sends_current, walk_order

if TYPE_CHECKING:
    from stas_neuro.passes.quantise import Quantise

LEARNED_LIMIT = 127
"""Largest sum of the magnitudes of a stem's learned weights of its steps."""
HEADROOM = 2
"""How far beyond the largest value of the sample a block's output may go before the readout clips it."""


@dataclass(frozen=True, eq=False)
class LayerUnits:
    """What a layer's integers stand for.

    `column_unit` (in,) or (out, in) is that of its inputs, of an image in normalised units; `offset` what an
    input of 0 stands for, of an image by channel in `black` (Cin,). The neurons that it drives divide their
    input by `divisor`.
    """

    scale: LayerScale
    column_unit: Array
    offset: float
    black: Array | None
    divisor: float


@dataclass(frozen=True, eq=False)
class _Integers:
    """Integers of a layer: `currents` are biases in the unit of membranes, `y` is the range of its output."""

    weight: Array
    exponents: Array
    currents: Array
    bias_exp: int
    y: Range
    x_shift: int


Key = tuple[str, str]
"""A node's name and one of its output ports."""


class IntegerWalk:
    """Walks the graph in order, knowing of each value what its integers stand for and how far they reach."""

    def __init__(self, graph: Graph, options: Quantise) -> None:
        self.graph = graph
        self.options = options
        self.limit = 2 ** (options.state_bits - 1) - 1
        self.problems = Problems()
        self.nodes: list[Node] = []
        self.tensors: dict[str, Array] = {}
        self.unit: dict[Key, float] = {}
        """What one unit of an integer stands for; of an image, of its pixels before normalisation."""
        self.offset: dict[Key, float] = {}
        """What the integer 0 stands for, where that is not 0."""
        self.reach: dict[Key, Range] = {}
        self.images: set[Key] = set()
        """Values that are the image, or its mean over frames."""
        self.scales: dict[str, LayerScale] = {}
        self.groups: dict[str, UnitGroup] = {}
        groups = unit_groups(graph, self.problems)
        self.order = walk_order(graph, groups, self.problems)
        self.sums = sums_of(graph, groups)
        self.sums_rounded = sums_of(graph, groups, rounded=True)
        """Those of groups whose means over tokens round what they add up."""
        self.rounded = set(options.rounded)
        """Means that do."""
        for group in groups:
            self.groups.update(dict.fromkeys((node.name for node in (*group.sources, *group.lifs)), group))

    def quantised(self) -> Graph:
        """Walk the graph once and return its integer form; IRError where something has none."""
        self.problems.raise_if_any()
        for node in self.order:
            try:
                _RULES[op_of(node)](self, node)
            except IRError as error:  # which names the layer: of layers with one unit perhaps another
                self.problems.found += error.problems
            except InputError as error:
                self.problems.add(node.name, error.what, error.remedy)
            if self.problems.found:
                break  # nothing behind this node can be told: its values have no unit
        self.problems.raise_if_any()
        return dataclasses.replace(
            self.graph, stage=Stage.QUANTISED, nodes=self._in_order(), tensors=self.tensors
        )

    def _in_order(self) -> tuple[Node, ...]:
        """Give the nodes in the order of the graph, where they were walked in another."""
        if self.order == self.graph.nodes:
            return tuple(self.nodes)
        place = {node.name: index for index, node in enumerate(self.graph.nodes)}
        return tuple(sorted(self.nodes, key=lambda node: place[node.name]))

    def layer_units(self, node: Synaptic) -> LayerUnits:
        """Tell, after the walk, what the integers of a layer stand for."""
        key = self._source(node, "x")
        return LayerUnits(
            scale=self.scales[node.name],
            column_unit=self._layer(node).column_unit,
            offset=self.offset.get(key, 0.0),
            black=self._black() if key in self.images else None,
            divisor=self.groups[node.name].divisor,
        )

    def _black(self) -> Array:
        """Give what a pixel of 0 is once it is normalised, (Cin,)."""
        preprocessing = self.graph.preprocessing
        black: Array = -np.array(preprocessing.mean) / np.array(preprocessing.std)
        return black

    def _input(self, node: Input) -> None:
        self._emit(FixedInput, node, encoding=self.options.encoding)
        largest = 1 if self.options.encoding == "spikes" else PIXEL_LIMIT
        self._value(node, 1 / largest, Range(0, largest))
        self.images.add((node.name, "y"))

    def _output(self, node: Output) -> None:
        self._emit(FixedOutput, node, unit=self.unit[self._source(node, "x")])

    def _as_it_is(self, node: Node) -> None:
        """Take over a node without arithmetic."""
        key = self._source(node, "x")
        if key in self.images:
            raise InputError("takes the image, which only a convolution normalises", "put a Conv2d before it")
        self.nodes.append(node)
        self._value(node, self.unit[key], self.reach[key].with_zero())

    def _halting(self, node: Node) -> None:
        """Leave scores and their sums to the readout, which decides how many bits a score has."""

    def _emit(
        self, cls: type[Node], node: Node, tensors: Mapping[str, Array] | None = None, **integers: Any
    ) -> None:
        attributes = {part.name: getattr(node, part.name) for part in dataclasses.fields(node)}
        self.nodes.append(cls(**attributes | integers))
        for param, tensor in (tensors or {}).items():
            self.tensors[f"{node.name}/{param}"] = tensor.astype(np.int16)

    def _value(self, node: Node, unit: float, reach: Range) -> None:
        for port in node.OUTPUTS:
            self.unit[node.name, port], self.reach[node.name, port] = unit, reach

    def _source(self, node: Node, port: str) -> Key:
        edge = self.graph.inputs(node)[port]
        return edge.src, edge.src_port

    # Layers with weights ------------------------------------------------------------------------------------

    def _synapses(self, node: Synaptic) -> _Integers:
        """Choose the integers of a layer, and say what its output stands for."""
        group = self.groups[node.name]
        if node.name not in self.scales:
            self._scale(group)
        options, scale, synapses = self.options, self.scales[node.name], self._layer(node)
        matrix = mantissas(synapses, scale, options.bits)
        held = matrix * scale.deltas[:, None] / synapses.column_unit
        bias = self._bias(node, held)
        if synapses.statistics is not None:
            # What rounding the weights does to the output on average, the bias takes back.
            correction = synapses.statistics.mean_output(synapses.weight - held)
            bias = bias + _by_channel(correction, bias)
        weight = matrix.reshape(self.graph.tensor(node, "weight").shape)
        exponents, currents = np.array(scale.exponents), bias / scale.unit
        if np.abs(currents).max() > WORD_LIMIT:
            raise self._misfit(node)
        bias_exp = scale.bias_exp
        if bias_exp is None:
            bias_exp = _exponent_of(float(np.abs(currents).max()))
        reach = self.reach[self._source(node, "x")].rounded(scale.x_shift)
        y = synaptic_ranges(weight, exponents, np.rint(currents).astype(np.int64), reach)[1]
        self._value(node, scale.unit * group.divisor, y.with_zero())
        return _Integers(weight, exponents, currents, bias_exp, y, scale.x_shift)

    def _linear(self, node: Linear) -> None:
        self._emit_synapses(FixedLinear, node, self._synapses(node))

    def _conv2d(self, node: Conv2d) -> None:
        integers = self._synapses(node)
        off_core = self.options.encoding == "bias" and self._source(node, "x") in self.images
        if off_core:
            bias_exp = max(integers.bias_exp, _exponent_of(integers.y.magnitude + 1))
            y = Range(integers.y.low - (1 << bias_exp), integers.y.high)
            integers = dataclasses.replace(integers, bias_exp=bias_exp)
            self.reach[node.name, "y"] = y.with_zero()
        bias_map = integers.currents.shape[1:]
        self._emit_synapses(FixedConv2d, node, integers, bias_map=bias_map, off_core=off_core)

    def _emit_synapses(self, cls: type[Node], node: Node, made: _Integers, **more: Any) -> None:
        biases = np.clip(np.rint(made.currents / 2**made.bias_exp), -BIAS_LIMIT, BIAS_LIMIT)
        tensors = {"weight": made.weight, "weight_exp": made.exponents, "bias": biases}
        own = {"weight_bits": self.options.bits, "bias": True, "bias_exp": made.bias_exp}
        own["x_shift"] = made.x_shift
        self._emit(cls, node, tensors, **own, **more)

    def _misfit(self, node: Node) -> IRError:
        return IRError(
            Problem(node.name, "the given scales are not of its weights", "fine-tune the model anew")
        )

    def _scale(self, group: UnitGroup) -> None:
        """Choose the scales of a group's layers, or take those that were given."""
        given = self.options.scales
        names = [source.name for source in group.sources]
        if given:
            for source in group.sources:
                scale = given.get(source.name)
                if isinstance(source, Synaptic) and (
                    scale is None
                    or not scale.is_of_core
                    or len(scale.exponents) != len(self.graph.tensor(source, "weight"))
                ):
                    raise self._misfit(source)
            self.scales.update({name: given[name] for name in names})
            return
        layers = [self._layer(source) for source in group.sources if isinstance(source, Synaptic)]
        limits = Limits(
            bits=self.options.bits,
            per_channel=self.options.exponents == "channel",
            state=self.limit,
            bias_current=self.options.encoding == "bias"
            and any(self._source(source, "x") in self.images for source in group.sources),
            highest_exponent=0 if self.options.exponents == "none" else EXPONENT_LIMIT,
        )
        try:
            scales = self._fitted(group, layers, limits, self.sums)
        except IRError:
            if not group.means:
                raise
            scales = self._fitted_to_means(group, layers, limits)
        if self.options.exponents == "none":
            scales = [without_exponents(layer, scale) for layer, scale in zip(layers, scales, strict=True)]
        self.scales.update(zip(names, scales, strict=True))

    def _fitted(
        self, group: UnitGroup, layers: Sequence[Synapses], limits: Limits, sums: Sums
    ) -> list[LayerScale]:
        """Choose the scales of a group's layers, whose outputs are summed up as told."""
        layers = [
            dataclasses.replace(layer, factor=sums.factor[layer.name], repeats=sums.added[layer.name])
            for layer in layers
        ]
        thresholds = [lif.threshold / sums.unit[lif.name] for lif in group.lifs]
        if thresholds:
            limits = dataclasses.replace(limits, highest_threshold=max(thresholds) / thresholds[0])
        threshold = group.lifs[0].threshold if group.lifs else None
        return fit_group(layers, group.longest(self.graph.time_steps), threshold, limits)

    def _fitted_to_means(
        self, group: UnitGroup, layers: Sequence[Synapses], limits: Limits
    ) -> list[LayerScale]:
        """Choose them where the group's means over tokens round, as what all tokens bring does not fit."""
        self.rounded |= {mean.name for mean in group.means}
        # Of each token half a unit of the sum may be rounded up.
        rounding = max(self._tokens(mean) for mean in group.means) / 2
        room = limits.state - math.ceil(group.longest(self.graph.time_steps) * rounding)
        return self._fitted(group, layers, dataclasses.replace(limits, state=room), self.sums_rounded)

    def _tokens(self, mean: TokenMean) -> int:
        return self.graph.source_type(self.graph.inputs(mean)["x"]).shape[0]

    def _layer(self, node: Synaptic) -> Synapses:
        """Describe a layer as a matrix whose output drives membranes, which divide its sum."""
        divisor = self.groups[node.name].divisor
        weight = self.graph.tensor(node, "weight")
        matrix = weight.reshape(len(weight), -1) / divisor
        key = self._source(node, "x")
        # What is not reached yet is a spike: `walk_order` has currents before the layers that read them.
        unit, reach = self.unit.get(key, 1.0), self.reach.get(key, Range(0, 1))
        columns = np.full(matrix.shape[1], unit)
        if key in self.images:
            assert isinstance(node, Conv2d)
            of_channel = unit / np.array(self.graph.preprocessing.std)
            of_group = np.repeat(of_channel, weight[0, 0].size).reshape(node.groups, -1)
            columns = np.repeat(of_group, node.out_channels // node.groups, axis=0)
        return Synapses(
            name=node.name,
            weight=matrix,
            bias=self._bias(node, matrix),
            own_bias=self._own_bias(node),
            column_unit=columns,
            lowest=min(reach.low, 0),
            highest=max(reach.high, 0),
            statistics=self.options.statistics.get(node.name),
            rounds=bool(self.groups[node.name].lifs) and sends_current(self.graph, node),
        )

    def _own_bias(self, node: Synaptic) -> Array:
        """Give the part of that which is a layer's bias, float (out,) or (out, H', W')."""
        if not node.bias:
            return np.zeros(len(self.graph.tensor(node, "weight")))
        own: Array = self.graph.tensor(node, "bias") / self.groups[node.name].divisor
        return own

    def _bias(self, node: Synaptic, matrix: Array) -> Array:
        """Give what a layer's neurons receive without any spike, float (out,) or (out, H', W')."""
        own, key = self._own_bias(node), self._source(node, "x")
        if key not in self.images:
            total: Array = own + _by_channel(matrix.sum(1), own) * self.offset.get(key, 0.0)
            return total
        assert isinstance(node, Conv2d)
        # A black pixel is 0 here and -mean/std in the float network, whose padding is 0: the border differs.
        shape = self.graph.types[key].shape
        background = np.broadcast_to(self._black()[:, None, None], shape)
        _, stride, padding, dilation = node.sides
        padded = np.pad(background, ((0, 0), *zip(padding, padding, strict=True)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, node.sides.extent, (1, 2))  # type: ignore[call-overload]
        windows = windows[:, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
        groups = zip(
            np.split(matrix.reshape(node.weight_shape), node.groups),
            np.split(windows, node.groups),
            strict=True,
        )
        border = [np.einsum("ochw,cyxhw->oyx", *group, optimize=True) for group in groups]
        bias: Array = np.concatenate(border)
        bias = bias + _by_channel(own, bias)
        uniform = np.allclose(bias, bias[:, :1, :1], rtol=0, atol=1e-12)
        return bias[:, 0, 0] if uniform else bias

    # Neurons and what they are fed --------------------------------------------------------------------------

    def _spike_mat_mul(self, node: SpikeMatMul) -> None:
        self._product(node, FixedSpikeMatMul, node.scale)

    def _column_sum(self, node: MaskedColumnSum) -> None:
        self._product(node, FixedMaskedColumnSum, 1.0)

    def _head_sum(self, node: HeadSum) -> None:
        self._product(node, FixedHeadSum, 1.0)

    def _product(self, node: Node, cls: type[Node], scale: float) -> None:
        """Choose the exponent by which counts of spikes meet the threshold of their LIF exactly."""
        group = self.groups[node.name]
        if not group.lifs:
            raise InputError("its output drives no neurons", "put a LIF behind it")
        longest = group.longest(self.graph.time_steps)
        lif, most = group.lifs[0], self.graph.types[node.name, "y"].bound
        assert most is not None  # the largest count, before the scale
        added = self.sums.added[node.name]
        # The number that reaches the threshold, in a step from rest.
        exact = lif.threshold * lif.divisor / scale / self.sums.factor[node.name]
        fitting = [e for e in range(8) if longest * (most * added << (ALIGN + e)) <= self.limit]
        if not fitting:
            raise InputError(
                f"membranes can reach {round(longest * (most * added << ALIGN))}, a core holds {self.limit}",
                "use fewer tokens or more heads",
            )
        # ">=" is ">" of a threshold one step lower: steps must be finer than what halving leaves of a count.
        least = min(self.graph.time_steps - 1, fitting[-1]) if lif.fire == ">=" else 0
        distance = {e: abs(exact * 2**e - round(exact * 2**e)) for e in fitting if e >= least}
        exponent = min(distance, key=lambda e: (round(distance[e], 9), e))
        self._emit(cls, node, exponent=exponent)
        self._value(node, scale / 2 ** (exponent + ALIGN), Range(0, most << (exponent + ALIGN)))

    def _lif(self, node: LIF) -> None:
        unit = self.unit[self._source(node, "x")] / node.divisor
        vth = round(node.threshold / unit / 2**ALIGN) - (node.fire == ">=")
        if node.reset == "subtract" and vth + (node.fire == ">=") < 1:
            step = unit * 2**ALIGN
            what = f"its threshold {node.threshold:g} is below half a step of the integers, {step:.3g}"
            raise InputError(what, "raise its threshold, or lower the weights before it")
        self._emit(FixedLIF, node, dv=min(round(4096 / node.tau), 4095), vth=max(vth, 0))
        self._value(node, 1.0, Range(0, 1))

    def _current(self, node: SynapticCurrent) -> None:
        key = self._source(node, "x")
        unit = self.unit[key]
        currents = self.graph.tensor(node, "bias") / unit if node.bias else np.zeros(1)
        bias_exp = _exponent_of(float(np.abs(currents).max()))
        if self.options.exponents == "none":
            bias_exp = max(bias_exp, PLAIN_BIAS_EXP)
        biases = np.clip(np.rint(currents / 2**bias_exp), -BIAS_LIMIT, BIAS_LIMIT)
        tensors = {"bias": biases} if node.bias else {}
        self._emit(
            FixedSynapticCurrent, node, tensors, du=max(round(4096 / node.tau) - 1, 0), bias_exp=bias_exp
        )
        made = self.nodes[-1]
        assert isinstance(made, FixedSynapticCurrent)
        u = current_range(made, self.reach[key], self.graph.time_steps)
        y = biases.astype(np.int64) << bias_exp
        self._value(node, unit, Range(u.low + int(y.min()), u.high + int(y.max())))

    def _add(self, node: Add) -> None:
        keys = [self._source(node, port) for port in "ab"]
        finest = min(self.unit[key] for key in keys)
        weights = [self.unit[key] / finest for key in keys]
        if any(abs(weight - round(weight)) > 1e-6 or weight > 256 for weight in weights):
            units = " and ".join(f"{self.unit[key]:.3g}" for key in keys)
            raise InputError(f"adds values whose integers stand for {units}", "add values of one layer kind")
        whole = [round(weight) for weight in weights]
        self._emit(FixedAdd, node, a_weight=whole[0], b_weight=whole[1])
        a, b = (self.reach[key].times(weight) for key, weight in zip(keys, whole, strict=True))
        self._value(node, finest, Range(a.low + b.low, a.high + b.high))

    def _spike_and(self, node: SpikeAnd) -> None:
        self.nodes.append(node)
        self._value(node, 1.0, Range(0, 1))

    def _integrate(self, node: Integrate) -> None:
        key, steps = self._source(node, "x"), self.graph.time_steps
        unit, reach = self.unit[key], self.reach[key].with_zero()
        tensors, shift = {}, 0
        if key in self.images:
            if node.mode != "mean":
                raise InputError(
                    f"takes the {node.mode} of frames before they are normalised", "take their mean"
                )
            self.images.add((node.name, "y"))
        if node.mode == "learned":
            weights = self.graph.tensor(node, "weights")
            shift = max(0, math.floor(math.log2(LEARNED_LIMIT / max(np.abs(weights).sum(), 1e-30))))
            shift = min(shift, 7)
            tensors["weights"] = np.rint(weights * 2**shift)
            total = np.abs(tensors["weights"]).sum()
            reach = Range(-math.ceil(total * reach.magnitude), math.ceil(total * reach.magnitude))
            if self.graph.types[key].kind == Kind.CURRENT:
                reach = reach.shifted(shift)  # it keeps its unit: there are bits enough below
            else:
                unit, shift = unit / 2**shift, 0
        elif node.mode != "max":
            reach = reach.times(steps)
            unit = unit / steps if node.mode == "mean" else unit
        self._emit(FixedIntegrate, node, tensors, shift=shift)
        self._value(node, unit, reach)

    def _token_mean(self, node: TokenMean) -> None:
        key, tokens = self._source(node, "x"), self._tokens(node)
        shift = rounding_shift(tokens) if node.name in self.rounded else 0
        self._emit(FixedTokenMean, node, x_shift=shift)
        reach = self.reach[key].rounded(shift).times(tokens)
        self._value(node, self.unit[key] * 2.0**shift / tokens, reach)

    # Halting and readout ------------------------------------------------------------------------------------

    def _readout(self, node: Readout) -> None:
        keys = [self._source(node, port) for port in self.graph.inputs(node) if port.startswith("z")]
        unit = self.unit[keys[-1]]
        if any(abs(self.unit[key] / unit - 1) > 1e-9 for key in keys):
            raise InputError("reads blocks whose integers stand for different values", "use like blocks")
        reach = Range(min(self.reach[key].low for key in keys), max(self.reach[key].high for key in keys))
        is_events = self.graph.types[keys[-1]].kind in EVENTS
        needed, largest = reach.magnitude, self.options.largest_output
        if not is_events:
            # What a plan depends on must not move with the weights when they are fine-tuned.
            reach = self._any_current()
            if largest is not None:
                needed = min(self.limit, math.ceil(HEADROOM * largest / unit))
        plan = plan_readout(self.graph, node, unit, reach, needed, is_events, self.limit)
        for score in self.graph.of_type(HaltingScore):
            self._score(score, plan.score_bits)
        for image_score in self.graph.of_type(ImageScore):
            self._image_score(image_score, plan)
        for accumulator in self.graph.accumulators:
            limit = math.ceil((1 - accumulator.epsilon) * 2**plan.score_bits)
            late = isinstance(accumulator, LateHaltAccumulate)
            cls = FixedLateHaltAccumulate if late else FixedHaltAccumulate
            self._emit(cls, accumulator, score_bits=plan.score_bits, limit=limit)
        names = ("z_shift", "z_limit", "divide_bits", "y_shift")
        self._emit(FixedReadout, node, **{name: getattr(plan, name) for name in names})
        self._value(node, plan.unit, plan.reach)
        self.offset[node.name, "y"] = plan.offset

    def _any_current(self) -> Range:
        return Range(-self.limit, self.limit)

    def _score(self, node: HaltingScore, bits: int) -> None:
        key = self._source(node, "z")
        reach = self.reach[key] if self.graph.types[key].kind in EVENTS else self._any_current()
        scores = score_table(node, self.unit[key], reach.times(node.largest_group), bits)
        self._emit(
            FixedHaltingScore,
            node,
            {"table": scores.table},
            shift=scores.shift,
            low=scores.low,
            entries=len(scores.table),
        )

    def _image_score(self, node: ImageScore, readout: ReadoutPlan) -> None:
        key = self._source(node, "z")
        reach = self.reach[key] if self.graph.types[key].kind in EVENTS else self._any_current()
        plan = plan_image_score(self.graph, node, self.unit[key], reach, readout, self.options.bits)
        held = {name: value for name, value in vars(plan).items() if name not in ("weight", "bias")}
        tensors = {"weight": plan.weight, "bias": plan.bias}
        self._emit(FixedImageScore, node, tensors, **held, score_bits=readout.score_bits)


def _by_channel(values: Array, bias: Array) -> Array:
    """Return values (out,) or (out, H', W') with as many axes as biases (out,) or (out, H', W')."""
    if values.ndim == bias.ndim:
        return values
    return values.reshape(-1, *[1] * (bias.ndim - 1))


def _exponent_of(largest: float) -> int:
    """Find the smallest exponent with which a bias of this magnitude has a mantissa of 13 bits."""
    return next((e for e in range(8) if round(largest / 2**e) <= BIAS_LIMIT), 7)


_RULES: Mapping[type[Node], Callable[[IntegerWalk, Any], None]] = per_op(
    "the integers of an operation",
    {
        Input: IntegerWalk._input,
        Conv2d: IntegerWalk._conv2d,
        Linear: IntegerWalk._linear,
        SpikeMatMul: IntegerWalk._spike_mat_mul,
        MaskedColumnSum: IntegerWalk._column_sum,
        HeadSum: IntegerWalk._head_sum,
        LIF: IntegerWalk._lif,
        SynapticCurrent: IntegerWalk._current,
        Add: IntegerWalk._add,
        Integrate: IntegerWalk._integrate,
        SpikeAnd: IntegerWalk._spike_and,
        SpikeMaxPool: IntegerWalk._as_it_is,
        MaxPool: IntegerWalk._as_it_is,
        Tokens: IntegerWalk._as_it_is,
        Map: IntegerWalk._as_it_is,
        Slice: IntegerWalk._as_it_is,
        TokenMean: IntegerWalk._token_mean,
        Gate: IntegerWalk._as_it_is,
        HaltingScore: IntegerWalk._halting,
        HaltAccumulate: IntegerWalk._halting,
        ImageScore: IntegerWalk._halting,
        LateHaltAccumulate: IntegerWalk._halting,
        Readout: IntegerWalk._readout,
        Output: IntegerWalk._output,
    },
    without=(BatchNorm,),  # folded before
)
