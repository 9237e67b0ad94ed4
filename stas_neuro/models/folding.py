"""Write the weights of folded layers back into a model, whose normalisations then have no effect."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from stas_neuro.models.lif import TokenBatchNorm
from stas_neuro.models.stas import StasModel


@torch.no_grad()
def set_folded(model: StasModel, layers: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Set the folded weight and bias of each Conv2d and Linear, by name.

    Their normalisation becomes the identity, except for its shift, which is the bias. Folding divides by
    ``sqrt(var + eps)``, and no float32 value makes that exactly 1, so folding the model again returns these
    values with a relative error of 1e-8.
    """
    modules = dict(model.named_modules())
    for name, (weight, bias) in layers.items():
        layer = modules[name]
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        layer.weight.copy_(weight)
        norm = modules.get(_norm_of(name))
        if norm is None:
            assert layer.bias is not None
            layer.bias.copy_(bias)
            continue
        assert isinstance(norm, nn.BatchNorm2d | TokenBatchNorm)
        assert norm.running_mean is not None and norm.running_var is not None
        if layer.bias is not None:
            layer.bias.zero_()
        norm.weight.fill_(1.0)
        norm.bias.copy_(bias)
        norm.running_mean.zero_()
        norm.running_var.fill_(1.0 - norm.eps)


def _norm_of(name: str) -> str:
    """Return the name of the normalisation after a layer: conv3 has bn3, q has q_bn."""
    parent, _, own = name.rpartition(".")
    return f"{parent}.{own.replace('conv', 'bn') if own.startswith('conv') else own + '_bn'}"
