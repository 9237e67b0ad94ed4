"""A module that is imported as an integer program, with what the shipped networks do not have."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import stas_neuro
from stas_neuro.ir import Graph
from stas_neuro.passes import FoldBatchNorm, Quantise
from support.foreign_neurons import MultiStepLIFNode


class _Module(nn.Module):
    """Strides, groups, average pooling and two stages."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, stride=2, padding=1)
        self.stem_lif = MultiStepLIFNode(tau=2.0, v_threshold=0.3)
        self.wide = nn.Conv2d(6, 12, 3, padding=1, groups=3)
        self.wide_lif = MultiStepLIFNode(tau=2.0, v_threshold=0.2)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x.unsqueeze(0).repeat(3, 1, 1, 1, 1)
        t, b = x.shape[:2]
        x = self.stem_lif(self.stem(x.flatten(0, 1)).unflatten(0, (t, b)))
        x = self.wide_lif(self.wide(x.flatten(0, 1)).unflatten(0, (t, b)))
        return self.head(x.flatten(3).mean(3)).mean(0)


def imported_program(images: int) -> tuple[Graph, NDArray[np.int64]]:
    """Return the program with 8-bit weights, and random images (images, 2, 8, 8) in 0..255."""
    torch.manual_seed(0)
    example = torch.randint(0, 256, (images, 2, 8, 8)).double() / 255
    graph = stas_neuro.open_model(_Module().eval().double(), example=example)
    assert isinstance(graph, Graph)
    return Quantise(bits=8)(FoldBatchNorm()(graph)), np.rint(example.numpy() * 255).astype(np.int64)
