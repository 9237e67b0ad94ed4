"""Small ReLU networks for Fashion-MNIST, and their training: the networks that ann_to_snn.py converts."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stas_neuro.data import LabelledImages, normalise

MEAN, STD = (0.286,), (0.353,)
WIDTH = 48


class Layer(nn.Sequential):
    """A linear layer on tokens (B, N, D), its normalisation and a ReLU."""

    def __init__(self, inputs: int, outputs: int, relu: bool = True) -> None:
        super().__init__(nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs))
        self.relu = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Give values of the same layout."""
        y = self[1](self[0](x).flatten(0, 1))
        return self.relu(y.unflatten(0, x.shape[:2]))


def convolution(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    """Give a convolution, its normalisation and a ReLU."""
    convolved = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return [convolved, nn.BatchNorm2d(outputs), nn.ReLU()]


def stem() -> nn.Sequential:
    """Give three convolutions that make a map of 7 x 7 positions of an image of 28 x 28 pixels."""
    first, second = convolution(1, WIDTH // 4), convolution(WIDTH // 4, WIDTH // 2, 2)
    return nn.Sequential(*first, *second, *convolution(WIDTH // 2, WIDTH, 2))


class Cnn(nn.Module):
    """The stem, a residual connection around two convolutions, the mean over positions, a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = stem()
        self.body = nn.Sequential(*convolution(WIDTH, WIDTH), *convolution(WIDTH, WIDTH))
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Give logits (B, 10) of images (B, 1, 28, 28)."""
        x = self.stem(x)
        x = x + self.body(x)
        return self.head(x.mean((2, 3)))


class Block(nn.Module):
    """Attention and a perceptron, each added to its input; attention has ReLUs instead of a softmax."""

    def __init__(self, heads: int = 4, softmax: bool = False) -> None:
        super().__init__()
        self.heads, self.softmax = heads, softmax
        self.q, self.k = Layer(WIDTH, WIDTH, relu=not softmax), Layer(WIDTH, WIDTH, relu=not softmax)
        self.v = Layer(WIDTH, WIDTH)
        self.attended = nn.ReLU()
        self.project = Layer(WIDTH, WIDTH)
        self.widen, self.narrow = Layer(WIDTH, 2 * WIDTH), Layer(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Give tokens of the same layout, (B, N, D)."""
        q, k, v = (self.split(layer(x)) for layer in (self.q, self.k, self.v))
        if self.softmax:
            y = (q @ k.transpose(-2, -1) * (WIDTH // self.heads) ** -0.5).softmax(-1) @ v
        else:
            y = q @ (k.transpose(-2, -1) @ v) * (1 / 32)
        x = x + self.project(self.attended(y.transpose(1, 2).flatten(2)))
        return x + self.narrow(self.widen(x))

    def split(self, x: Tensor) -> Tensor:
        """Give (B, heads, N, D/heads) of (B, N, D)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Transformer(nn.Module):
    """The stem, whose positions are tokens, two blocks, the mean over tokens, a linear layer."""

    def __init__(self, softmax: bool = False) -> None:
        super().__init__()
        self.stem = stem()
        self.blocks = nn.ModuleList(Block(softmax=softmax) for _ in range(2))
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Give logits (B, 10) of images (B, 1, 28, 28)."""
        x = self.stem(x).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1))


def softmax_transformer() -> Transformer:
    """Give the transformer with a softmax, which spikes cannot compute: for comparison only."""
    return Transformer(softmax=True)


NETWORKS = {"cnn": Cnn, "transformer": Transformer, "softmax": softmax_transformer}


def train(name: str, data: LabelledImages, seed: int, epochs: int) -> nn.Module:
    """Train a network; returns it in evaluation mode."""
    torch.manual_seed(seed)
    network = NETWORKS[name]()
    images = torch.from_numpy(normalise(data.images[:], MEAN, STD)).float()
    labels = torch.as_tensor(data.labels)
    steps = epochs * -(-len(images) // 128)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=3e-3, total_steps=steps)
    for _ in range(epochs):
        for index in torch.randperm(len(images)).split(128):
            loss = nn.functional.cross_entropy(network(images[index]), labels[index], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()
