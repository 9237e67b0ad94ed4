"""Finds the blocks of a network, converts maps to tokens where one begins, and averages before the head."""

from __future__ import annotations

from dataclasses import replace

from stas_neuro.importers.build import Builder
from stas_neuro.ir import (
    LIF,
    Add,
    BatchNorm,
    Conv2d,
    HeadSum,
    Linear,
    MaskedColumnSum,
    Node,
    Phase,
    Readout,
    SpikeMatMul,
    Tokens,
)
from stas_neuro.scopes import block_of


def arrange(builder: Builder) -> None:
    """Set scopes and the block of the readout; move linear heads behind it, and conversions forward."""
    for node in [node for node in builder.nodes.values() if isinstance(node, Readout)]:
        _move_heads(builder, node)
    blocks = _blocks(builder)
    _assign_scopes(builder, blocks)
    for node in [node for node in builder.nodes.values() if isinstance(node, Readout)]:
        count = max(len(blocks), 1)
        builder.nodes[node.name] = replace(node, blocks=count)
        builder.inputs[node.name] = {f"z{count - 1}": builder.inputs[node.name]["z0"]}
    while (behind := _tokens_behind_a_step(builder)) is not None:
        _move_before(builder, behind)


def _move_heads(builder: Builder, readout: Readout) -> None:
    """Average before a linear layer, not behind it: once instead of in each step and for each token."""
    output = (readout.name, readout.OUTPUTS[0])
    while True:
        source = builder.inputs[readout.name]["z0"]
        head = builder.nodes[source[0]]
        if not isinstance(head, Linear) or builder.consumers(head.name) != [readout.name]:
            return
        for ports in builder.inputs.values():
            ports.update({port: source for port, taken in ports.items() if taken == output})
        builder.inputs[readout.name] = {"z0": builder.inputs[head.name]["x"]}
        builder.inputs[head.name] = {"x": output}
        builder.nodes[head.name] = replace(head, phase=Phase.END)


def _blocks(builder: Builder) -> list[str]:
    """Return the paths of blocks, in order: modules of a list that contain an attention."""
    found: dict[str, None] = {}
    for node in builder.nodes.values():
        if isinstance(node, SpikeMatMul | MaskedColumnSum | HeadSum):
            parts = node.name.split(".")[:-1]
            numbered = [index for index, part in enumerate(parts) if part.isdecimal()]
            # If blocks are not in a list: the module that contains the attention.
            end = numbered[-1] + 1 if numbered else max(len(parts) - 1, 1)
            found[".".join(parts[:end])] = None
    return list(found)


def _assign_scopes(builder: Builder, blocks: list[str]) -> None:
    """Assign nodes to the block of their module; a node in no block belongs to the block before it."""
    for name, node in builder.nodes.items():
        if node.phase == Phase.END:
            builder.nodes[name] = replace(node, scope="head")
            continue
        own = [index for index, path in enumerate(blocks) if name == path or name.startswith(f"{path}.")]
        sources = [builder.nodes[src].scope for src, _ in builder.inputs[name].values()]
        before = [block for block in map(block_of, sources) if block is not None]
        if own or before:
            builder.nodes[name] = replace(node, scope=f"block{own[-1] if own else max(before)}")


def _tokens_behind_a_step(builder: Builder) -> Tokens | None:
    """Find a conversion to tokens behind an elementwise or one-position step of a block on a map."""
    for node in builder.nodes.values():
        if not isinstance(node, Tokens):
            continue
        source = builder.nodes[builder.inputs[node.name]["x"][0]]
        # A normalisation stays directly behind its layer.
        layer = (
            builder.nodes[builder.inputs[source.name]["x"][0]] if isinstance(source, BatchNorm) else source
        )
        pointwise = isinstance(layer, LIF | Add) or _is_point(layer)
        alone = builder.consumers(source.name) == [node.name]
        if pointwise and alone and block_of(source.scope) is not None:
            return node
    return None


def _is_point(node: Node) -> bool:
    """Return whether a node is a convolution that a linear layer computes as well."""
    if not isinstance(node, Conv2d) or node.bias_map:
        return False
    return (node.kernel, node.stride, node.padding, node.groups) == (1, 1, 0, 1)


def _move_before(builder: Builder, tokens: Tokens) -> None:
    """Convert the inputs of a node to tokens instead of its output."""
    source = builder.nodes[builder.inputs[tokens.name]["x"][0]]
    for port, taken in builder.inputs[source.name].items():
        phase = builder.nodes[taken[0]].phase
        made = builder.emit(Tokens, f"{taken[0]}.tokens", {"x": taken}, phase=phase)
        scope = builder.nodes[taken[0]].scope
        builder.nodes[made[0]] = replace(builder.nodes[made[0]], scope=scope)
        builder.inputs[source.name][port] = made
    builder.replace(tokens.name, (source.name, source.OUTPUTS[0]))
    if isinstance(source, Conv2d):
        builder.nodes[source.name] = Linear(
            name=source.name,
            phase=source.phase,
            scope=source.scope,
            in_features=source.in_channels,
            out_features=source.out_channels,
            bias=source.bias,
        )
        weight = builder.tensors[f"{source.name}/weight"]
        builder.tensors[f"{source.name}/weight"] = weight.reshape(weight.shape[:2])
