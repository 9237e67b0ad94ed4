"""Lower a torch STAS model to a traced graph.

Structure and weights are read from its modules. The configuration is used only for what modules do not
contain: accumulation, readout, time steps, score and epsilon.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import torch
from torch import nn

from stas_neuro.errors import InputError
from stas_neuro.ir import (
    LIF,
    Add,
    Array,
    BatchNorm,
    Conv2d,
    Edge,
    Gate,
    Graph,
    HaltMode,
    Input,
    Integrate,
    Linear,
    MaskedColumnSum,
    Node,
    Output,
    Phase,
    Preprocessing,
    Problem,
    Problems,
    Readout,
    SpikeMatMul,
    SpikeMaxPool,
    Stage,
    Tokens,
)
from stas_neuro.ir.ops.readout import ReadoutMode
from stas_neuro.models import block as torch_block
from stas_neuro.models import lif as torch_lif
from stas_neuro.models import stem as torch_stem
from stas_neuro.models.config import ATTENTION_SCALE, EARLY_STEMS, LATE_STEMS, TAU, per_backbone
from stas_neuro.models.stas import StasModel
from stas_neuro.passes import AddHalting
from stas_neuro.scopes import scope_of

M = TypeVar("M", bound=nn.Module)
CONTAINERS = (StasModel, torch_stem.Stem, torch_block.Block, nn.ModuleList)
LEAVES = (
    torch_stem.Integrate,
    torch_block.SpikingAttention,
    torch_lif.LIF,
    torch_lif.TokenBatchNorm,
    nn.Conv2d,
    nn.BatchNorm2d,
    nn.Linear,
    nn.MaxPool2d,
)
"""Modules that each become a node."""
Value = tuple[str, str]
"""A node's name and one of its output ports."""


class LoweringError(InputError):
    """A model that cannot be expressed as a graph; `problems` has every reason."""

    problems: tuple[Problem, ...]

    def __init__(self, *problems: Problem) -> None:
        super().__init__(
            "model cannot be lowered: " + " | ".join(map(str, problems)),
            remedy="change the model as stated, or lower it by hand to stas_neuro.ir",
        )
        self.problems = problems

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self.problems


def lower(model: StasModel) -> Graph:
    """Return the traced graph of a model, in the model's dtype; node names are module paths.

    Raises
    ------
    LoweringError
        If lowering would lose or change anything in the model. The error has every reason.
    """
    return _Lowering(model).graph()


class _Lowering:
    def __init__(self, model: StasModel) -> None:
        self.model = model
        self.config = model.config
        self.nodes: list[Node] = []
        self.edges: list[Edge] = []
        self.tensors: dict[str, Array] = {}
        self.problems = Problems()
        self.read: set[str] = set()  # modules that are part of the graph

    def graph(self) -> Graph:
        config = self.config
        self._refuse_foreign(self.model)
        feature = self._blocks(self._stem())
        logits = self._linear("head", feature, Phase.END, "head")
        self._add(Output(name="output", phase=Phase.END, scope="head"), x=logits)
        for name, module in self.model.named_modules():
            if name not in self.read and type(module) in LEAVES:
                self.problems.add(name, f"{type(module).__name__} is not part of the graph", "remove it")
        if self.problems.found:
            raise LoweringError(*self.problems.found)
        graph = Graph(
            stage=Stage.TRACED,
            time_steps=config.time_steps,
            nodes=tuple(self.nodes),
            edges=tuple(self.edges),
            tensors=self.tensors,
            classes=config.class_names,
            preprocessing=Preprocessing(
                config.mean or (0.0,) * config.in_channels, config.std or (1.0,) * config.in_channels
            ),
        )
        return graph if config.accumulate == "off" else self._halting(graph)

    def _halting(self, graph: Graph) -> Graph:
        config = self.config
        return AddHalting(
            mode=cast(HaltMode, config.accumulate),
            readout=cast(ReadoutMode, config.readout),
            alpha=config.alpha,
            beta=config.beta,
            epsilon=config.epsilon,
            margin=config.margin,
            summed=config.summed,
            max_visits=config.max_visits or None,
            token_groups=config.token_groups or None,
        )(graph)

    def _refuse_foreign(self, model: StasModel) -> None:
        if "make_halting" in vars(model):
            self.problems.add("model", "its halting rule is replaced (make_halting)", "use one of accumulate")
        for name, module in model.named_modules():
            where = name or "model"
            if type(module) not in (*CONTAINERS, *LEAVES):
                self.problems.add(
                    where, f"{type(module).__name__} is not a module of a STAS model", "replace it"
                )
            if "forward" in vars(module):
                self.problems.add(where, "its forward is replaced", "restore the original")
            if module._forward_hooks or module._forward_pre_hooks:
                self.problems.add(where, "has forward hooks, which may change its values", "remove them")
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and not torch.isfinite(tensor).all():
                self.problems.add(name, "has NaN or infinite values", "train again")
        dtype = model.head.weight.dtype
        if dtype not in (torch.float32, torch.float64):
            what = f"its weights are {str(dtype).removeprefix('torch.')}"
            self.problems.add("model", what, "convert it with model.float()")

    # Stem ---------------------------------------------------------------------------------------------------

    def _stem(self) -> Value:  # noqa: C901
        config = self.config
        repeated = Phase.STEP if config.stem == "sps" else Phase.STEM
        phase = repeated if config.event_input else Phase.ONCE
        if config.event_input and config.stem == "one-step":
            phase = Phase.STEM
        shape = (config.in_channels, config.image_size, config.image_size)
        x = self._add(Input(name="input", phase=phase, scope="stem", shape=shape))
        stem = self._module("stem", torch_stem.Stem)
        if stem is None:
            return x
        for field in ("stem", "event_input", "time_steps", "patch_size"):
            built, wanted = getattr(stem.config, field), getattr(config, field)
            if built != wanted:
                self.problems.add(
                    "stem", f"built for {field}={built!r}, not {wanted!r}", "build the model again"
                )
        if config.event_input and config.stem == "one-step":
            x, phase = self._integrate(x), Phase.ONCE
        x = self._conv("0", x, phase)
        stages = stem.lif_stages
        for i in stages:
            if i == stages[0] and config.stem != "one-step":
                phase = repeated
            x = self._lif(f"stem.lif{i}", x, phase, "stem")
            if stem.pools_at(i):
                x = self._pool(f"stem.pool{i}", x, phase)
            if i == stages[0] and config.stem in EARLY_STEMS:
                x, phase = self._integrate(x), Phase.ONCE
            following = stem.conv_after(i)
            if hasattr(stem, f"conv{following}"):
                x = self._conv(str(following), x, phase)
        if stem.config.form.position:
            rpe = self._conv2d("stem.rpe", x, phase)
            rpe = self._lif("stem.rpe_lif", self._norm("stem.rpe_bn", rpe, phase, "stem"), phase, "stem")
            x = self._add(Add(name="stem.add", phase=phase, scope="stem"), a=x, b=rpe)
        if config.stem in LATE_STEMS:
            x, phase = self._integrate(x), Phase.ONCE
        return self._add(Tokens(name="stem.tokens", phase=phase, scope="stem"), x=x)

    def _conv(self, stage: str, x: Value, phase: Phase) -> Value:
        return self._norm(f"stem.bn{stage}", self._conv2d(f"stem.conv{stage}", x, phase), phase, "stem")

    def _conv2d(self, name: str, x: Value, phase: Phase) -> Value:
        module = self._module(name, nn.Conv2d)
        if module is None:
            return x
        kernel, stride, padding = (
            self._square(name, module, key) for key in ("kernel_size", "stride", "padding")
        )
        for key, only in (("groups", 1), ("dilation", (1, 1)), ("padding_mode", "zeros")):
            if getattr(module, key) != only:
                what = f"{key}={getattr(module, key)!r}, only {only!r} can be lowered"
                self.problems.add(name, what, f"build the layer with {key}={only!r}")
        node = Conv2d(
            name=name,
            phase=phase,
            scope="stem",
            in_channels=module.in_channels,
            out_channels=module.out_channels,
            kernel=kernel,
            stride=stride,
            padding=padding,
            bias=module.bias is not None,
        )
        return self._add(node, tensors={"weight": module.weight, "bias": module.bias}, x=x)

    def _pool(self, name: str, x: Value, phase: Phase) -> Value:
        module = self._module(name, nn.MaxPool2d)
        if module is None:
            return x
        if module.ceil_mode or module.dilation not in (1, (1, 1)):
            self.problems.add(name, "ceil_mode and dilation cannot be lowered", "use the defaults")
        kernel, stride, padding = (
            self._square(name, module, key) for key in ("kernel_size", "stride", "padding")
        )
        node = SpikeMaxPool(
            name=name, phase=phase, scope="stem", kernel=kernel, stride=stride, padding=padding
        )
        return self._add(node, x=x)

    def _integrate(self, x: Value) -> Value:
        name = "stem.integrate"
        module = self._module(name, torch_stem.Integrate)
        if module is None:
            return x
        mode: Any = module.mode
        tensors = {"weights": module.weights} if mode == "learned" else {}
        return self._add(
            Integrate(name=name, phase=Phase.ONCE, scope="stem", mode=mode), tensors=tensors, x=x
        )

    # Blocks, halting, readout -------------------------------------------------------------------------------

    def _blocks(self, z: Value) -> Value:
        config = self.config
        depth = len(self.model.blocks)
        if depth != config.depth:
            self.problems.add(
                "blocks", f"{depth}, not the configuration's {config.depth}", "build the model again"
            )
        for l in range(depth):
            z = self._block(l, z)
        mode = cast(ReadoutMode, config.readout)
        readout = Readout(name="readout", phase=Phase.END, scope="head", mode=mode, blocks=depth)
        return self._add(readout, inputs={f"z{depth - 1}": z})

    def _block(self, l: int, x: Value) -> Value:
        block = self._module(f"blocks.{l}", torch_block.Block)
        if block is None:
            return x
        return _BLOCKS[block.backbone](_BlockParts(self, block, f"blocks.{l}", scope_of(l)), x)

    def _attention(self, name: str, scope: str, q: Value, k: Value, v: Value) -> Value:
        module = self._module(name, torch_block.SpikingAttention)
        if module is None:
            return q
        width = self.config.dim // module.heads
        form: Literal["Q(K^TV)", "(QK^T)V"] = "Q(K^TV)" if self.config.tokens > width else "(QK^T)V"
        node = SpikeMatMul(
            name=name, phase=Phase.STEP, scope=scope, heads=module.heads, scale=ATTENTION_SCALE, form=form
        )
        return self._add(node, q=q, k=k, v=v)

    # Pieces -------------------------------------------------------------------------------------------------

    def _linear(self, name: str, x: Value, phase: Phase, scope: str) -> Value:
        module = self._module(name, nn.Linear)
        if module is None:
            return x
        node = Linear(
            name=name,
            phase=phase,
            scope=scope,
            in_features=module.in_features,
            out_features=module.out_features,
            bias=module.bias is not None,
        )
        return self._add(node, tensors={"weight": module.weight, "bias": module.bias}, x=x)

    def _norm(self, name: str, x: Value, phase: Phase, scope: str) -> Value:
        kind = torch_lif.TokenBatchNorm if scope != "stem" else nn.BatchNorm2d
        module: Any = self._module(name, kind)
        if module is None:
            return x
        if module.weight is None or module.running_mean is None:
            self.problems.add(name, "has no affine weights or no running statistics", "enable both")
            return x
        node = BatchNorm(name=name, phase=phase, scope=scope, features=module.weight.numel(), eps=module.eps)
        tensors = {
            "gamma": module.weight,
            "beta": module.bias,
            "mean": module.running_mean,
            "var": module.running_var,
        }
        return self._add(node, tensors=tensors, x=x)

    def _lif(self, name: str, x: Value, phase: Phase, scope: str) -> Value:
        module = self._module(name, torch_lif.LIF)
        if module is None:
            return x
        fire: Any = module.fire
        node = LIF(name=name, phase=phase, scope=scope, tau=TAU, threshold=module.threshold, fire=fire)
        return self._add(node, x=x)

    def _module(self, name: str, kind: type[M]) -> M | None:
        self.read.add(name)
        try:
            module = self.model.get_submodule(name)
        except AttributeError:
            self.problems.add(name, "is missing", f"a STAS model has a {kind.__name__} here")
            return None
        if not isinstance(module, kind):
            self.problems.add(name, f"is a {type(module).__name__}, not a {kind.__name__}", "replace it")
            return None
        return module

    def _square(self, name: str, module: nn.Module, key: str) -> int:
        value = getattr(module, key)
        sides = {value} if isinstance(value, int | str) else set(value)
        side = sides.pop()
        if sides or not isinstance(side, int):
            self.problems.add(name, f"{key}={value!r} is not one number for both sides", "make it square")
            return 1
        return side

    def _add(
        self,
        node: Node,
        *,
        tensors: Mapping[str, torch.Tensor | None] | None = None,
        inputs: dict[str, Value] | None = None,
        **more: Value,
    ) -> Value:
        self.nodes.append(node)
        for param, tensor in (tensors or {}).items():
            if tensor is not None:
                numbers = tensor.detach().cpu()
                # numpy has no bfloat16; such a model is refused later, together with all other problems.
                self.tensors[f"{node.name}/{param}"] = (
                    numbers.float() if numbers.dtype == torch.bfloat16 else numbers
                ).numpy()
        self.edges += [Edge(*source, node.name, port) for port, source in ((inputs or {}) | more).items()]
        return node.name, node.OUTPUTS[0] if node.OUTPUTS else ""


@dataclass(frozen=True, eq=False)
class _BlockParts:
    """Lowers the parts of one block."""

    lowering: _Lowering
    block: torch_block.Block
    name: str
    scope: str

    def linear(self, part: str, value: Value) -> Value:
        y = self.lowering._linear(f"{self.name}.{part}", value, Phase.STEP, self.scope)
        return self.lowering._norm(f"{self.name}.{part}_bn", y, Phase.STEP, self.scope)

    def lif(self, part: str, value: Value) -> Value:
        return self.lowering._lif(f"{self.name}.{part}_lif", value, Phase.STEP, self.scope)

    def spike(self, part: str, value: Value) -> Value:
        return self.lif(part, self.linear(part, value))

    def add(self, part: str, a: Value, b: Value) -> Value:
        node = Add(name=f"{self.name}.{part}", phase=Phase.STEP, scope=self.scope)
        return self.lowering._add(node, a=a, b=b)

    def attended(self, x: Value) -> Value:
        name, scope, lowering = self.name, self.scope, self.lowering
        q, k, v = (self.spike(part, x) for part in "qkv")
        if not self.block.sdsa:
            return self.lif("attn", lowering._attention(f"{name}.attn", scope, q, k, v))
        columns = MaskedColumnSum(name=f"{name}.kv", phase=Phase.STEP, scope=scope)
        mask = lowering._lif(f"{name}.mask_lif", lowering._add(columns, k=k, v=v), Phase.STEP, scope)
        gate = Gate(name=f"{name}.mask", phase=Phase.STEP, scope=scope, axis="channel")
        return lowering._add(gate, x=q, mask=mask)


def _spikformer(parts: _BlockParts, x: Value) -> Value:
    x = parts.add("add_attn", x, parts.spike("proj", parts.attended(x)))
    return parts.add("add_mlp", x, parts.spike("fc2", parts.spike("fc1", x)))


def _spikingformer(parts: _BlockParts, x: Value) -> Value:
    x = parts.add("add_attn", x, parts.linear("proj", parts.attended(parts.lif("in", x))))
    hidden = parts.linear("fc1", parts.lif("fc1", x))
    return parts.add("add_mlp", x, parts.linear("fc2", parts.lif("fc2", hidden)))


_BLOCKS: Mapping[str, Callable[[_BlockParts, Value], Value]] = per_backbone(
    "how a block is lowered", {"spikformer": _spikformer, "spikingformer": _spikingformer}
)
