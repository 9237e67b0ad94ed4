"""Spikformer and Spikingformer as they were released for CIFAR: the same modules, names and layouts."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from support.foreign_neurons import MultiStepLIFNode


def lif(threshold: float = 1.0) -> MultiStepLIFNode:
    return MultiStepLIFNode(tau=2.0, v_threshold=threshold, backend="cupy")


class Spikformer(nn.Module):
    """Tokens are (T, B, N, C); neurons stand behind normalisations."""

    def __init__(self, dim: int, heads: int, depth: int, steps: int = 4) -> None:
        super().__init__()
        self.steps = steps
        self.patch_embed = _Patches(dim)
        self.block = nn.ModuleList(_Block(dim, heads) for _ in range(depth))
        self.head = nn.Linear(dim, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x.unsqueeze(0).repeat(self.steps, 1, 1, 1, 1))
        for block in self.block:
            x = block(x)
        return self.head(x.mean(2).mean(0))


class _Patches(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        widths = (3, dim // 8, dim // 4, dim // 2, dim)
        for index, (inputs, outputs) in enumerate(pairwise(widths)):
            self._layer(str(index or ""), inputs, outputs)
        self._layer("rpe", dim, dim)
        self.maxpool = nn.MaxPool2d(3, 2, 1)

    def _layer(self, name: str, inputs: int, outputs: int) -> None:
        conv, bn, neuron = self._names(name)
        setattr(self, conv, nn.Conv2d(inputs, outputs, 3, padding=1, bias=False))
        setattr(self, bn, nn.BatchNorm2d(outputs))
        setattr(self, neuron, lif())

    @staticmethod
    def _names(name: str) -> list[str]:
        return [f"{name}_{part}" if name == "rpe" else f"proj_{part}{name}" for part in ("conv", "bn", "lif")]

    def _run(self, name: str, x: Tensor) -> Tensor:
        conv, bn, neuron = (getattr(self, each) for each in self._names(name))
        y = bn(conv(x.flatten(0, 1)))
        return neuron(y.reshape(*x.shape[:2], *y.shape[1:]).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        for name in ("", "1", "2", "3"):
            x = self._run(name, x)
            if name in ("2", "3"):
                y = self.maxpool(x.flatten(0, 1))
                x = y.reshape(*x.shape[:2], *y.shape[1:])
        x = self._run("rpe", x) + x
        return x.flatten(-2).transpose(-1, -2)


class _Linear(nn.Module):
    """What the released blocks write out: a layer of `of` on (T, B, N, C), behind it norm and neuron."""

    def run(self, name: str, x: Tensor) -> Tensor:
        linear, bn, neuron = (getattr(self, f"{name}_{part}") for part in ("linear", "bn", "lif"))
        y = bn(linear(x.flatten(0, 1)).transpose(-1, -2)).transpose(-1, -2)
        return neuron(y.reshape(*x.shape[:3], -1).contiguous())

    def add(self, name: str, inputs: int, outputs: int) -> None:
        setattr(self, f"{name}_linear", nn.Linear(inputs, outputs))
        setattr(self, f"{name}_bn", nn.BatchNorm1d(outputs))
        setattr(self, f"{name}_lif", lif())


class _Attention(_Linear):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        for name in ("q", "k", "v", "proj"):
            self.add(name, dim, dim)
        self.attn_lif = lif(0.5)

    def forward(self, x: Tensor) -> Tensor:
        steps, images, tokens, dim = x.shape
        q, k, v = (
            self.run(name, x)
            .reshape(steps, images, tokens, self.heads, dim // self.heads)
            .permute(0, 1, 3, 2, 4)
            for name in "qkv"
        )
        y = (q @ k.transpose(-2, -1)) * 0.125 @ v
        return self.run("proj", self.attn_lif(y.transpose(2, 3).reshape(steps, images, tokens, dim)))


class _Mlp(_Linear):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.add("fc1", dim, 4 * dim)
        self.add("fc2", 4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.run("fc2", self.run("fc1", x))


class _Block(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)  # in the files, and never used
        self.attn = _Attention(dim, heads)
        self.mlp = _Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)


class Spikingformer(nn.Module):
    """Blocks keep maps (T, B, C, H, W); neurons stand before convolutions."""

    def __init__(self, dim: int, heads: int, depth: int, steps: int = 4) -> None:
        super().__init__()
        self.steps = steps
        self.patch_embed = _Tokenizer(dim)
        self.block = nn.ModuleList(_MapBlock(dim, heads) for _ in range(depth))
        self.head = nn.Linear(dim, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x.unsqueeze(0).repeat(self.steps, 1, 1, 1, 1))
        for block in self.block:
            x = block(x)
        return self.head(x.flatten(3).mean(3).mean(0))


class _Tokenizer(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        widths = (3, dim // 8, dim // 4, dim // 2, dim, dim)
        for index, (inputs, outputs) in enumerate(pairwise(widths)):
            setattr(self, f"block{index}_conv", nn.Conv2d(inputs, outputs, 3, padding=1, bias=False))
            setattr(self, f"block{index}_bn", nn.BatchNorm2d(outputs))
            if index:
                setattr(self, f"block{index}_lif", lif())
        self.pool = nn.MaxPool2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        steps, images = x.shape[:2]
        for index in range(5):
            x = x if index == 0 else getattr(self, f"block{index}_lif")(x)
            x = x.flatten(0, 1)
            x = self.pool(x) if index >= 3 else x
            x = getattr(self, f"block{index}_bn")(getattr(self, f"block{index}_conv")(x))
            x = x.reshape(steps, images, *x.shape[1:])
        return x


class _MapAttention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        for name in ("q", "k", "v", "proj"):
            setattr(self, f"{name}_conv", nn.Conv1d(dim, dim, 1, bias=name == "proj"))
            setattr(self, f"{name}_bn", nn.BatchNorm1d(dim))
            setattr(self, f"{name}_lif", lif())
        self.attn_lif = lif(0.5)

    def forward(self, x: Tensor) -> Tensor:
        steps, images, dim, height, width = x.shape
        seen = self.proj_lif(x).flatten(3).flatten(0, 1)

        def heads(name: str) -> Tensor:
            conv, bn, neuron = (getattr(self, f"{name}_{part}") for part in ("conv", "bn", "lif"))
            y = neuron(bn(conv(seen)).reshape(steps, images, dim, -1)).transpose(-1, -2)
            return y.reshape(steps, images, -1, self.heads, dim // self.heads).permute(0, 1, 3, 2, 4)

        q, k, v = map(heads, "qkv")
        y = ((q @ k.transpose(-2, -1)) @ v) * 0.125
        y = self.attn_lif(y.transpose(3, 4).reshape(steps, images, dim, -1)).flatten(0, 1)
        return self.proj_bn(self.proj_conv(y)).reshape(steps, images, dim, height, width)


class _MapMlp(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        for name, inputs, outputs in (("mlp1", dim, 4 * dim), ("mlp2", 4 * dim, dim)):
            setattr(self, f"{name}_lif", lif())
            setattr(self, f"{name}_conv", nn.Conv2d(inputs, outputs, 1))
            setattr(self, f"{name}_bn", nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        for name in ("mlp1", "mlp2"):
            y = getattr(self, f"{name}_lif")(x).flatten(0, 1)
            y = getattr(self, f"{name}_bn")(getattr(self, f"{name}_conv")(y))
            x = y.reshape(*x.shape[:2], *y.shape[1:])
        return x


class _MapBlock(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = _MapAttention(dim, heads)
        self.mlp = _MapMlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(x)
        return x + self.mlp(x)
