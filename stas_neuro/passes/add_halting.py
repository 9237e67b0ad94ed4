"""Adds halting to a graph without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from stas_neuro.errors import InputError, unknown
from stas_neuro.ir import (
    POLICIES,
    Add,
    Array,
    BatchNorm,
    Edge,
    Gate,
    Graph,
    HaltAccumulate,
    HaltingScore,
    HaltMode,
    ImageScore,
    Linear,
    Node,
    Output,
    Phase,
    Policy,
    Readout,
    SpikeAnd,
    Stage,
    TokenMean,
    group_numbers,
)
from stas_neuro.ir.ops.readout import ReadoutMode
from stas_neuro.scopes import block_of


@dataclass(frozen=True, kw_only=True)
class AddHalting:
    """Add halting to a network without: scores, accumulators, and masks of its blocks.

    Blocks are the scopes block0, block1, ...; each takes one value (N, D) from outside. Where the head reads
    a mean over tokens in each step, the last block's scores come from the residual stream before it, and the
    readout stays as it is: halted tokens add nothing to later means.

    Parameters
    ----------
    mode : HaltMode
        Halting policy.
    alpha, beta : float
        Of the score of a token, sigmoid(alpha * z_0 + beta); unused by `image`.
    epsilon : float
        A token halts where its sum of scores reaches 1 - epsilon; unused by `image`.
    margin : float
        The image halts where its running logits lead by this much; used by `image` alone.
    summed : bool
        Whether `margin` is that of the sum of the logits over the steps so far, and not of their mean.
    max_visits : int, optional
        Number of visits after which a token halts whatever its score.
    token_groups : int, optional
        Number of groups of tokens that halt together: alpha times the mean of z_0 over a group decides. The
        tokens are cut in scan order, as token-major placement cuts them. Not of `image`.
    readout : ReadoutMode, optional
        How the head reads visits. By default `rate`, or `last-state` if it is that already: other weights
        would change what the head sees although no token halts.

    Raises
    ------
    InputError
        When the graph halts already, is quantised, its blocks are not as described or have different tokens,
        the readout reads neither the tokens of the last block nor means over them, or a token makes more
        visits than `max_visits` before it can halt; with what is not so.
    """

    mode: HaltMode
    alpha: float = 1.0
    beta: float = -3.0
    epsilon: float = 0.0
    margin: float = 1.0
    summed: bool = False
    max_visits: int | None = None
    token_groups: int | None = None
    readout: ReadoutMode | None = None

    def __call__(self, graph: Graph) -> Graph:
        """Return the rewritten graph, of the same stage."""
        if self.mode not in POLICIES:
            raise unknown("halting policy", self.mode, POLICIES)
        if graph.accumulators:
            raise InputError(f"the network halts already ({graph.halting})", "lower it with accumulate off")
        if graph.stage == Stage.QUANTISED:
            raise InputError("the network is quantised", "add halting to the folded graph, then quantise it")
        return _Rewrite(self, graph).graph()


class _Rewrite:
    """One graph on its way to halting."""

    def __init__(self, options: AddHalting, graph: Graph) -> None:
        self.options, self.old = options, graph
        self.policy: Policy = POLICIES[options.mode]
        self.blocks = graph.blocks
        self.members = [
            [node for node in graph.nodes if block_of(node.scope) == block] for block in range(self.blocks)
        ]
        self.entries = [self._entry(block) for block in range(self.blocks)]
        self.tokens = self._tokens(self.entries[0])
        read = graph.inputs(graph.readout)[f"z{self.blocks - 1}"]
        self.of_mean = self._tokens(read) != self.tokens
        """Whether the readout reads a mean over tokens."""
        self.outputs = [*self.entries[1:], self._before_mean(read) if self.of_mean else read]
        """An edge out of each block, by which its value leaves."""
        self._check_tokens()
        self.groups = self._groups()
        """Number of groups of tokens that halt together; None if each halts alone."""

    def _groups(self) -> int | None:
        count = self.options.token_groups
        if count is None:
            return None
        if self.policy.by_image:
            what = f"{self.options.mode} halting halts all tokens together, and token-groups is {count}"
            raise InputError(what, "leave it out, or use another halting policy")
        if not 1 <= count <= self.tokens:
            what = f"token-groups is {count}, and there are {_count(self.tokens)}"
            raise InputError(what, f"use 1 to {self.tokens}")
        return count if count < self.tokens else None

    def graph(self) -> Graph:
        nodes: list[Node] = []
        edges: dict[tuple[str, str], Edge] = {(edge.dst, edge.dst_port): edge for edge in self.old.edges}
        added: list[Edge] = []
        first = {members[0].name: block for block, members in enumerate(self.members)}
        final = {members[-1].name: block for block, members in enumerate(self.members)}
        for node in self.old.nodes:
            if node.name in first and (mask := self._mask(first[node.name])):
                gate = _gate(first[node.name])
                nodes.append(gate)
                added += self._gated(first[node.name], gate, mask, edges)
            nodes.append(self._in_steps(node))
            if (block := final.get(node.name)) in self.policy.scored_blocks(self.blocks):
                assert block is not None
                score, accumulate = self._score(block), self._accumulate(block)
                nodes += [score, accumulate]
                z = self.outputs[block]
                added.append(Edge(z.src, z.src_port, score.name, "z"))
                added.append(Edge(score.name, "h", accumulate.name, "score"))
                if mask := self._mask(block):
                    added.append(replace(mask, dst=accumulate.name, dst_port="alive"))
                    added.append(replace(mask, src_port="total", dst=accumulate.name, dst_port="total"))
        added += [] if self.of_mean else self._read()
        edges |= {(edge.dst, edge.dst_port): edge for edge in added}
        tensors = {**self.old.tensors, **self._weights()}
        return replace(self.old, nodes=tuple(nodes), edges=tuple(edges.values()), tensors=tensors)

    def _in_steps(self, node: Node) -> Node:
        """Give a node as it is with halting: what a masked block computes once, it computes in its steps."""
        if node == self.old.readout and not self.of_mean:
            return self._readout()
        block = block_of(node.scope)
        if node.phase == Phase.ONCE and block is not None and self._mask(block):
            return replace(node, phase=Phase.STEP)
        return node

    def _entry(self, block: int) -> Edge:
        """Find the one value that a block takes from outside."""
        graph, members = self.old, self.members[block]
        if not members:
            raise InputError(
                f"no node has the scope block{block}",
                f"give the {self.blocks} blocks scopes; an imported network without attention has no blocks",
            )
        if maps := [node.name for node in members if self._rank(node) == 3]:
            raise InputError(
                f"{maps[0]} of block{block} gives maps, of which no token can be masked",
                "use blocks that work on tokens (N, D)",
            )
        names = {node.name for node in members}
        entering = [edge for node in members for edge in graph.inputs(node).values() if edge.src not in names]
        sources = sorted({f"{edge.src}:{edge.src_port}" for edge in entering})
        if len(sources) != 1 or self._rank(graph.node(entering[0].src)) != 2:
            what = f"block{block} takes {', '.join(sources) or 'nothing'} from outside"
            raise InputError(what, "give each block one value (N, D), which halting can mask")
        return entering[0]

    def _before_mean(self, read: Edge) -> Edge:
        """Find the tokens before the mean that is read: the residual stream, else what is averaged."""
        averaged = self._back(read, lambda node: isinstance(node, TokenMean))
        if averaged is None:
            raise InputError(
                f"the readout reads {_count(self._tokens(read))}, and block0 takes {self.tokens}",
                "let it read the tokens of the last block, or a mean over them",
            )
        if self.policy.by_image or self.options.readout is not None:
            option = f"readout {self.options.readout}" if self.options.readout else self.options.mode
            what = f"the readout reads a mean over tokens, and {option} halting weighs the tokens themselves"
            raise InputError(what, "halt tokens by another policy, with the readout as it is")
        (tokens,) = self.old.inputs(averaged.src).values()
        stream = self._back(tokens, lambda node: isinstance(node, Add | SpikeAnd))
        return tokens if stream is None else stream

    def _back(self, edge: Edge, wanted: Callable[[Node], bool]) -> Edge | None:
        """Follow a value back through nodes with one input; return the edge out of a wanted node."""
        while not wanted(self.old.node(edge.src)):
            inputs = self.old.inputs(edge.src)
            if len(inputs) != 1:
                return None
            (edge,) = inputs.values()
        return edge

    def _check_tokens(self) -> None:
        """Refuse blocks with different tokens."""
        for block, edge in enumerate([*self.entries[1:], self.outputs[-1]], 1):
            if (tokens := self._tokens(edge)) != self.tokens:
                place = f"block{block} takes" if block < self.blocks else "the last block makes"
                raise InputError(
                    f"{place} {_count(tokens)}, and block0 takes {self.tokens}",
                    "use blocks with the same tokens: a token halts in all of them",
                )

    def _tokens(self, edge: Edge) -> int:
        return self.old.source_type(edge).shape[0]

    def _rank(self, node: Node) -> int:
        return len(self.old.types[node.name, node.OUTPUTS[0]].shape)

    def _mask(self, block: int) -> Edge | None:
        """Give the mask of a block's visits, its destination still open."""
        link = self.policy.mask_of(block, self.blocks)
        if link is None:
            return None
        decider = self.policy.scored_blocks(self.blocks)[link.accumulator]
        return Edge(_accumulator(decider), "alive", "", "", link.delay)

    def _gated(
        self, block: int, gate: Gate, mask: Edge, edges: dict[tuple[str, str], Edge]
    ) -> Iterator[Edge]:
        """Mask what enters a block, and what its halted tokens would add."""
        entry = self.entries[block]
        yield Edge(entry.src, entry.src_port, gate.name, "x")
        yield replace(mask, dst=gate.name, dst_port="mask")
        for node in self.members[block]:
            for port, edge in self.old.inputs(node).items():
                if (edge.src, edge.src_port) == (entry.src, entry.src_port):
                    yield replace(edge, src=gate.name, src_port="y", dst_port=port)
            if node.traits.masks_tokens and self._is_masked(node) and self._adds(node):
                yield replace(mask, dst=node.name, dst_port="alive")

    def _is_masked(self, node: Node) -> bool:
        """Whether a node works on the tokens that halt."""
        shape = self.old.types[node.name, node.OUTPUTS[0]].shape
        return len(shape) == 2 and shape[0] == self.tokens

    def _adds(self, node: Node) -> bool:
        """Whether a node itself adds to halted tokens: a Linear only a bias that no BatchNorm follows."""
        if not isinstance(node, Linear):
            return True
        followers = (self.old.node(edge.dst) for edge in self.old.consumers(node))
        return node.bias and not any(isinstance(follower, BatchNorm) for follower in followers)

    def _score(self, block: int) -> Node:
        options, name = self.options, _score(block)
        if not self.policy.by_image:
            groups = () if self.groups is None else group_numbers(self.tokens, self.groups)
            of_one = HaltingScore(
                name=name,
                phase=Phase.STEP,
                scope="halting",
                alpha=options.alpha,
                beta=options.beta,
                groups=groups,
            )
            return replace(of_one, alpha=options.alpha / of_one.largest_group)
        head = self._head()
        return ImageScore(
            name=name,
            phase=Phase.STEP,
            scope="halting",
            features=head.in_features,
            classes=head.out_features,
            margin=options.margin,
            summed=options.summed,
        )

    def _accumulate(self, block: int) -> Node:
        return HaltAccumulate(
            name=_accumulator(block),
            phase=Phase.STEP,
            scope="halting",
            mode=self.options.mode,
            epsilon=self.options.epsilon,
            last_block=block == self.blocks - 1,
            closes=self._closes(block),
        )

    def _closes(self, block: int) -> int | None:
        most = self.options.max_visits
        if most is None:
            return None
        return self.policy.closes(block, self.blocks, self.old.time_steps, most)

    def _weights(self) -> dict[str, Array]:
        """Give the image's score the weights of the head."""
        if not self.policy.by_image:
            return {}
        head, name = self._head(), _score(self.blocks - 1)
        weight = self.old.tensor(head, "weight")
        bias = self.old.tensor(head, "bias") if head.bias else np.zeros(head.out_features, weight.dtype)
        return {f"{name}/weight": weight, f"{name}/bias": bias}

    def _head(self) -> Linear:
        """Find the layer that makes the readout's vector the logits."""
        for edge in self.old.consumers(self.old.readout):
            head = self.old.node(edge.dst)
            if isinstance(head, Linear) and any(
                isinstance(self.old.node(after.dst), Output) for after in self.old.consumers(head)
            ):
                return head
        raise InputError(
            "no single Linear makes logits of the readout, so there are no running logits to halt by",
            "use another halting policy, or one Linear as head",
        )

    def _readout(self) -> Readout:
        old = self.old.readout
        mode = self.options.readout or ("last-state" if old.mode == "last-state" else "rate")
        weighs = mode == "mean-field"
        return replace(old, mode=mode, normalise=weighs and self.policy.fills == "visit")

    def _read(self) -> Iterator[Edge]:
        readout = self._readout()
        for block in self.policy.scored_blocks(self.blocks):
            yield replace(self.outputs[block], dst=readout.name, dst_port=f"z{block}")
            if readout.mode == "mean-field":
                yield Edge(_accumulator(block), "p", readout.name, f"p{block}")
            elif mask := self._mask(block):
                yield replace(mask, dst=readout.name, dst_port=f"alive{block}")


def _count(tokens: int) -> str:
    return "1 token" if tokens == 1 else f"{tokens} tokens"


def _gate(block: int) -> Gate:
    return Gate(name=f"blocks.{block}.gate", phase=Phase.STEP, scope=f"block{block}", axis="token")


def _accumulator(block: int) -> str:
    return f"halting.{block}"


def _score(block: int) -> str:
    return f"halting.{block}.score"
