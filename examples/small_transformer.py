"""A spiking transformer in plain torch, without classes of other libraries: the example of docs/importing.md.

stas-export compile examples/small_transformer.py:make --weights net.pth --example images.npz -o net.stas
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stas_neuro.importers.neuron import Neuron


class Spike(torch.autograd.Function):
    """A step, with the gradient of a triangle."""

    @staticmethod
    def forward(context, x):
        """Return 1 where x is not negative."""
        context.save_for_backward(x)
        return (x >= 0).to(x)

    @staticmethod
    def backward(context, gradient):
        """Return the gradient, which is nonzero where x is near 0."""
        (x,) = context.saved_tensors
        return gradient * (1 - x.abs()).clamp(min=0)


class Lif(nn.Module):
    """v = v + (x - v) / 2; fires where v >= threshold, and resets to 0. Its input has all steps: (T, ...)."""

    def __init__(self, threshold: float = 1.0) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        """Return the spikes of all steps."""
        v, spikes = torch.zeros_like(x[0]), []
        for current in x:
            v = v + (current - v) / 2
            fired = Spike.apply(v - self.threshold)
            v = v * (1 - fired.detach())
            spikes.append(fired)
        return torch.stack(spikes)


NEURONS = {Lif: lambda lif: Neuron(tau=2.0, threshold=lif.threshold, fire=">=", call="sequence")}
"""For the importer: the classes that are neurons, and what each computes."""


class Layer(nn.Module):
    """A linear layer, its normalisation and its neurons, on tokens (T, B, N, D)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=False)
        self.norm = nn.BatchNorm1d(outputs)
        self.lif = Lif()

    def forward(self, x: Tensor) -> Tensor:
        """Give spikes of the same layout."""
        steps, images, tokens, _ = x.shape
        y = self.linear(x).flatten(0, 2)
        return self.lif(self.norm(y).view(steps, images, tokens, -1))


class Block(nn.Module):
    """Attention without softmax and a perceptron, each with a residual connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v = (Layer(width, width) for _ in range(3))
        self.attended = Lif(threshold=0.5)
        self.project = Layer(width, width)
        self.widen, self.narrow = Layer(width, 2 * width), Layer(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Give numbers of spikes, (T, B, N, D)."""
        q, k, v = (self.split(layer(x)) for layer in (self.q, self.k, self.v))
        y = q @ (k.transpose(-2, -1) @ v) * 0.25
        x = x + self.project(self.attended(y.transpose(2, 3).flatten(3)))
        return x + self.narrow(self.widen(x))

    def split(self, x: Tensor) -> Tensor:
        """Give (T, B, heads, N, D/heads) of (T, B, N, D)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(2, 3)


class Transformer(nn.Module):
    """Two convolutions make 16 tokens of an image of 8 x 8 pixels; then two blocks and a linear layer."""

    def __init__(self, steps: int = 4, width: int = 32, heads: int = 4, depth: int = 2) -> None:
        super().__init__()
        self.steps = steps
        self.stem = nn.ModuleList(
            [
                nn.Conv2d(1, width // 2, 3, padding=1, bias=False),
                nn.BatchNorm2d(width // 2),
                Lif(),
                nn.Conv2d(width // 2, width, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(width),
                Lif(),
            ]
        )
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.head = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Give logits (B, 10) of images (B, 1, 8, 8)."""
        x = images.expand(self.steps, *images.shape)
        for layer in self.stem:
            x = layer(x) if isinstance(layer, Lif) else layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        x = x.flatten(3).transpose(2, 3)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((0, 2)))


def make() -> Transformer:
    """Give the module, untrained: what the command line calls."""
    torch.manual_seed(0)
    return Transformer()
