"""A folded graph as a torch module: its weights are trained, with the arithmetic of the float reference.

A spike has the surrogate gradient of `models.lif`; decisions of halting have none, as in `models.halting`.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor, nn

from stas_neuro.errors import InputError
from stas_neuro.ir import (
    LIF,
    POLICIES,
    Add,
    BatchNorm,
    Conv2d,
    Graph,
    HaltAccumulate,
    HaltingScore,
    HeadSum,
    ImageScore,
    Input,
    Integrate,
    LateHaltAccumulate,
    Linear,
    MaskedColumnSum,
    Node,
    Output,
    Readout,
    SpikeMatMul,
    Stage,
    SynapticCurrent,
    TokenMean,
    per_op,
)
from stas_neuro.models import stas
from stas_neuro.models.halting import over_groups
from stas_neuro.models.lif import SURROGATE_SLOPE
from stas_neuro.training.execution import (
    MOVES,
    GraphModule,
    Inputs,
    Operators,
    Run,
    State,
    attend,
    straight,
)


def _surrogate_lif(
    v: Tensor, x: Tensor, tau: float, threshold: float, decay_input: bool, at_threshold: bool
) -> tuple[Tensor, Tensor]:
    """Run one step from membranes v with input x; return spikes and membranes."""
    v = v + (x - v) / tau if decay_input else v - v / tau + x
    away = v - threshold
    fired = (v >= threshold if at_threshold else v > threshold).to(v)
    # Its derivative is 1 - tanh(slope * away)^2; none flows through the reset.
    spikes = straight(fired, torch.tanh(SURROGATE_SLOPE * away) / SURROGATE_SLOPE)
    return spikes, v * (1 - fired.detach())


class TrainableGraph(GraphModule):
    """A folded graph whose weights and biases are parameters; in float64 it is the float reference.

    Thresholds, time constants and the parameters of scores are constants. The running prediction of halting
    by image has the weights of the head, and so follows it.

    Parameters
    ----------
    graph : Graph
        A folded graph.
    dtype : torch.dtype
        Precision of parameters and of all arithmetic.
    fuse : bool
        Whether torch.compile fuses the neurons' arithmetic.

    Raises
    ------
    InputError
        If the graph is not folded, has late decisions, or halts by image with other weights than its head's.
    """

    def __init__(self, graph: Graph, dtype: torch.dtype = torch.float32, *, fuse: bool = False) -> None:
        super().__init__(graph)
        if graph.stage != Stage.FOLDED:
            raise InputError(f"the graph is {graph.stage}", "train the folded graph")
        if graph.late:
            what = f"halting decisions are {graph.late} hardware steps late, which training does not know"
            raise InputError(what, "train the network as it was before the schedule, then compile it again")
        refuse_soft_resets(graph)
        self.lif = torch.compile(_surrogate_lif, dynamic=False) if fuse else _surrogate_lif
        self.heads = {score.name: _head_of(graph, score) for score in graph.of_type(ImageScore)}
        """The layer whose weights are those of an image's score, by the name of the score."""
        own = (key for key in graph.tensors if key.rpartition("/")[0] not in self.heads)
        self.names = {key: key.replace(".", "|") for key in own}  # names of parameters must not have dots
        self.weights = nn.ParameterDict(
            {
                name: nn.Parameter(torch.tensor(graph.tensors[key], dtype=dtype))
                for key, name in self.names.items()
            }
        )

    def layer(self, node: Conv2d | Linear) -> tuple[Tensor, Tensor | None]:
        """Return the weight of a layer, and its bias if it has one."""
        return self.tensor(node, "weight"), self.tensor(node, "bias") if node.bias else None

    def tensor(self, node: Node, param: str) -> Tensor:
        """Return a parameter of a node."""
        found: Tensor = self.weights[self.names[f"{node.name}/{param}"]]
        return found

    @torch.no_grad()
    def trained(self) -> Graph:
        """Return the graph with the weights that were learnt, float64."""
        tensors = dict(self.graph.tensors)
        tensors |= {key: self.weights[name].double().numpy() for key, name in self.names.items()}
        for score, head in self.heads.items():
            params = ("weight", "bias") if head.bias else ("weight",)
            tensors |= {f"{score}/{param}": tensors[f"{head.name}/{param}"] for param in params}
        return dataclasses.replace(self.graph, tensors=tensors)

    def forward(self, images: Tensor, *, skip: bool = False) -> stas.Output:
        """Classify (B, C, H, W), or (B, T, C, H, W); halted tokens are computed and masked, `skip` or not."""
        return _Run(self, images).output()


def refuse_soft_resets(graph: Graph) -> None:
    """Refuse neurons whose reset training does not know."""
    if soft := [node.name for node in graph.of_type(LIF) if node.reset != "zero"]:
        what = f"neurons are reset by subtraction, which training does not know: {', '.join(soft)}"
        raise InputError(what, "train the network of ReLUs before its conversion")


def _head_of(graph: Graph, score: ImageScore) -> Linear:
    """Find the layer behind the readout that an image's score has the weights of."""
    for edge in graph.consumers(graph.readout):
        head = graph.node(edge.dst)
        if isinstance(head, Linear) and _is_copy(graph, score, head):
            return head
    what = f"{score.name} has other weights than the layer behind the readout, which it follows in training"
    raise InputError(what, "give it the weights of the head, or use another halting policy")


def _is_copy(graph: Graph, score: ImageScore, head: Linear) -> bool:
    bias = graph.tensor(head, "bias") if head.bias else np.zeros(head.out_features)
    pairs = ((graph.tensor(head, "weight"), "weight"), (bias, "bias"))
    return all(np.array_equal(tensor, graph.tensor(score, param)) for tensor, param in pairs)


class _Run(Run):
    """One forward pass in floats."""

    def __init__(self, module: TrainableGraph, images: Tensor) -> None:
        super().__init__(module.graph, images, _OPERATORS)
        self.module = module

    def _conv2d(self, node: Conv2d, inputs: Inputs) -> State:
        own = node.sides
        weight, bias = self.module.layer(node)
        y = nn.functional.conv2d(
            inputs["x"], weight, None, own.stride, own.padding, own.dilation, node.groups
        )
        if bias is None:
            return {"y": y}
        return {"y": y + (bias if node.bias_map else bias[:, None, None])}

    def _linear(self, node: Linear, inputs: Inputs) -> State:
        y = nn.functional.linear(inputs["x"], *self.module.layer(node))
        return {"y": y * inputs["alive"][..., None] if "alive" in inputs else y}

    def _lif(self, node: LIF, inputs: Inputs) -> State:
        x = inputs["x"]
        state = self.state.setdefault(node.name, {"v": torch.zeros_like(x)})
        options = node.tau, node.threshold, node.decay_input, node.fire == ">="
        spikes, state["v"] = self.module.lif(state["v"], x, *options)
        return {"s": spikes}

    def _current(self, node: SynapticCurrent, inputs: Inputs) -> State:
        x = inputs["x"]
        state = self.state.setdefault(node.name, {"u": torch.zeros_like(x)})
        u = state["u"] = state["u"] - state["u"] / node.tau + x
        if not node.bias:
            return {"y": u}
        bias = self.module.tensor(node, "bias")
        return {"y": u + (bias[:, None, None] if x.ndim == 4 else bias)}

    def _integrate(self, node: Integrate, inputs: Inputs) -> State:
        x = inputs["x"]
        match node.mode:
            case "max":
                return {"y": x.amax(0)}
            case "mean":
                return {"y": x.mean(0)}
            case "sum":
                return {"y": x.sum(0)}
            case "learned":
                return {"y": torch.tensordot(self.module.tensor(node, "weights"), x, dims=1)}

    def _token_mean(self, node: TokenMean, inputs: Inputs) -> State:
        return {"y": inputs["x"].mean(1, keepdim=True)}

    def _add(self, node: Add, inputs: Inputs) -> State:
        return {"y": inputs["a"] + inputs["b"]}

    def _attention(self, node: SpikeMatMul, inputs: Inputs) -> State:
        return {"y": attend(inputs, node.heads) * node.scale}

    def _columns(self, node: MaskedColumnSum, inputs: Inputs) -> State:
        return {"y": (inputs["k"] * inputs["v"]).sum(1)}

    def _head_sum(self, node: HeadSum, inputs: Inputs) -> State:
        return {"y": inputs["x"].unflatten(-1, (node.heads, -1)).sum(-1)}

    def _score(self, node: HaltingScore, inputs: Inputs) -> State:
        first = over_groups(inputs["z"][:, :, 0], node.groups)
        return {"h": torch.sigmoid(node.alpha * first + node.beta)}

    @torch.no_grad()
    def _image_score(self, node: ImageScore, inputs: Inputs) -> State:
        z = inputs["z"]
        logits = nn.functional.linear(z.mean(1), *self.module.layer(self.module.heads[node.name]))
        state = self.state.setdefault(node.name, {"sums": torch.zeros_like(logits)})
        state["sums"] = state["sums"] + logits
        first, second = state["sums"].topk(2, dim=1).values.unbind(1)
        due = node.margin * (1 if node.summed else self.step + 1)
        clear = (first - second >= due).to(z)
        return {"h": clear[:, None].expand(z.shape[:2])}

    def _accumulate(self, node: HaltAccumulate, inputs: Inputs) -> State:
        decided = self.decide(node, inputs, 1 - node.epsilon, 1)
        if POLICIES[node.mode].fills == "step":
            decided["p"] = decided["p"] / self.graph.time_steps
        return decided

    def _readout(self, node: Readout, inputs: Inputs) -> State:
        z = {block: inputs[f"z{block}"] for block in range(node.blocks) if f"z{block}" in inputs}
        tokens, weight = self.gather(node, z, inputs)
        if not self.last_step:
            return {}
        weighted = any(port.startswith("p") for port in inputs)
        if node.mode == "rate" or node.normalise or (node.mode == "mean-field" and not weighted):
            # A weight is 0 where every score underflowed to 0, and then so is the sum.
            tokens = tokens / torch.where(weight == 0, 1, weight)
        return {"y": tokens.mean(1)}

    def _logits(self, node: Output, inputs: Inputs) -> State:
        return {"x": inputs["x"]}


_OPERATORS: Operators = per_op(
    "operators of training",
    {
        **MOVES,
        Add: _Run._add,
        Conv2d: _Run._conv2d,
        HaltAccumulate: _Run._accumulate,
        HaltingScore: _Run._score,
        HeadSum: _Run._head_sum,
        ImageScore: _Run._image_score,
        Input: _Run.frame,
        Integrate: _Run._integrate,
        LIF: _Run._lif,
        SynapticCurrent: _Run._current,
        Linear: _Run._linear,
        MaskedColumnSum: _Run._columns,
        Output: _Run._logits,
        Readout: _Run._readout,
        SpikeMatMul: _Run._attention,
        TokenMean: _Run._token_mean,
    },
    without=(
        BatchNorm,  # folded into the layer before it
        LateHaltAccumulate,  # decisions are delayed after training
    ),
)
