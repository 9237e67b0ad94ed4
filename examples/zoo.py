"""Networks of SpikingJelly 2.0's model zoo at small sizes, with random weights with which all layers fire.

`models_table.py` runs them. Requires the dependency group `zoo`.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from meta_spikeformer import MetaSpikeFormer
from torch import Tensor, nn


@dataclass(frozen=True)
class Model:
    """A network of the library, and the shape of its images: (C, H, W), or (T, C, H, W) for frames."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]

    def make(self) -> nn.Module:
        """Return the network in evaluation mode, with weights with which its layers fire."""
        return settled(self.build(), self)

    @property
    def axes(self) -> str:
        """Axes of a batch of images, as the importer names them."""
        return "BCHW" if len(self.shape) == 3 else "TBCHW"

    def images(self, count: int = 2, seed: int = 0) -> Tensor:
        """Return random images in 0..1, multiples of 1/255, with the axes that `axes` names."""
        draw = torch.Generator().manual_seed(seed)
        images = torch.randint(0, 256, (count, *self.shape), generator=draw) / 255
        return images if len(self.shape) == 3 else images.transpose(0, 1)


class Repeated(nn.Module):
    """A network of sequences, for still images."""

    def __init__(self, network: nn.Module, steps: int = 4) -> None:
        super().__init__()
        self.network, self.steps = network, steps

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of each step, (T, B, classes)."""
        return self.network(x.unsqueeze(0).repeat(self.steps, 1, 1, 1, 1))


def settled(network: nn.Module, model: Model) -> nn.Module:
    """Give normalisations random scales and the statistics of random images, so that all layers fire."""
    torch.manual_seed(1)
    for each in network.modules():
        if isinstance(each, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(each.weight, 0.8, 1.4)
            nn.init.normal_(each.bias, 0.5, 0.2)
            each.momentum = 1.0
    with torch.no_grad():
        network.train()(model.images(4, seed=2))
    _library("functional").reset_net(network)
    return network.eval()


def _of(module: str, name: str, **settings: Any) -> nn.Module:
    """Return a network of `spikingjelly.activation_based.model`, in the mode that takes all steps at once."""
    torch.manual_seed(0)
    made: nn.Module = getattr(_library(f"model.{module}"), name)(**settings)
    _library("functional").set_step_mode(made, "m")
    return made


def _library(name: str) -> Any:
    """Return a module of SpikingJelly; torchvision, with which it would download weights, is not needed."""
    downloads = types.ModuleType("torchvision._internally_replaced_utils")
    downloads.load_state_dict_from_url = None  # type: ignore[attr-defined]
    absent = importlib.util.find_spec("torchvision") is None
    stand_ins = [types.ModuleType("torchvision"), downloads] if absent else []
    try:
        sys.modules |= {each.__name__: each for each in stand_ins}
        return importlib.import_module(f"spikingjelly.activation_based.{name}")
    finally:
        for each in stand_ins:
            del sys.modules[each.__name__]


def _in_layers(module: str, name: str, steps: int | None, **settings: Any) -> nn.Module:
    """Return a network whose neurons are given, for still images repeated in `steps` or for frames.

    Its linear layers, which no normalisation follows, get larger weights, so that neurons behind them fire.
    """
    neuron = getattr(_library("neuron"), settings.pop("neuron", "LIFNode"))
    network = _of(module, name, spiking_neuron=neuron, **settings)
    for each in network.modules():
        if isinstance(each, nn.Linear):
            each.weight.data.mul_(8)
    return network if steps is None else Repeated(network, steps)


def _parametric(name: str, steps: int | None = 4) -> Callable[[], nn.Module]:
    settings = {"neuron": "ParametricLIFNode", "channels": 4}
    return partial(_in_layers, "parametric_lif_net", name, steps, **settings)


def _narrow(module: str, name: str, block: str, neuron: str = "IFNode", **settings: Any) -> nn.Module:
    """Return a ResNet with one block a stage and an eighth of the channels, which its class fixes."""
    library, layer = _library(f"model.{module}"), _library("layer")
    base: Any = getattr(library, name)

    class Narrow(base):
        def _make_layer(self, block: Any, planes: int, *arguments: Any, **words: Any) -> nn.Module:
            if planes == 64:
                self.inplanes = 8
                self.conv1 = layer.Conv2d(3, 8, 7, stride=2, padding=3, bias=False)
                self.bn1 = layer.BatchNorm2d(8)
            made: nn.Module = super()._make_layer(block, planes // 8, *arguments, **words)
            return made

    torch.manual_seed(0)
    blocks, node = getattr(library, block), getattr(_library("neuron"), neuron)
    network = Narrow(blocks, [1, 1, 1, 1], spiking_neuron=node, **settings)
    network.fc = layer.Linear(64 * blocks.expansion, 10)
    _library("functional").set_step_mode(network, "m")
    return Repeated(network)


_sew = partial(_narrow, "sew_resnet", "SEWResNet")
_resnet = partial(_narrow, "spiking_resnet", "SpikingResNet", neuron="LIFNode")


def _vgg() -> nn.Module:
    """Return a VGG whose fully connected layers have 32 neurons, not 4096."""
    widths, node = [8, "M", 16, "M", 32, "M"], _library("neuron").LIFNode
    made: Any = _in_layers("spiking_vgg", "SpikingVGG", 4, cfg=widths, batch_norm=True)
    layer = _library("layer")
    layers = (layer.Linear(32 * 49, 32), node(), layer.Linear(32, 32), node(), layer.Linear(32, 10))
    for each in layers[::2]:
        each.weight.data.mul_(8)
    made.network.classifier = nn.Sequential(*layers)
    _library("functional").set_step_mode(made, "m")
    return made


def _meta(**settings: Any) -> nn.Module:
    """Return a network of `meta_spikeformer.py`."""
    torch.manual_seed(0)
    network = MetaSpikeFormer(_library("layer"), _library("neuron"), **settings)
    _library("functional").set_step_mode(network, "m")
    return network


_SPIKFORMER = {"T": 4, "num_classes": 10, "embed_dims": 32, "num_heads": 4, "depths": 2}
_STAGED = {"T": 4, "num_classes": 10, "embed_dims": 32, "num_heads": (2, 4, 4), "depths": (1, 1, 1)}
_MAX = {"T": 4, "num_classes": 10, "embed_dims": 32, "depths": (1, 1, 1)}
_MS = {"T": 4, "num_classes": 10, "layers": (1, 1, 1), "base_channels": 8}
_RECIPES: Mapping[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "spikformer": (
        partial(_of, "spikformer", "Spikformer", img_size_h=64, img_size_w=64, **_SPIKFORMER),
        (3, 64, 64),
    ),
    "spikformer_cifar10": (
        partial(_of, "spikformer", "Spikformer", img_size_h=32, img_size_w=32, patch_size=4, **_SPIKFORMER),
        (3, 32, 32),
    ),
    "qkformer_token": (partial(_of, "qkformer", "QKFormer", **_STAGED), (3, 64, 64)),
    "qkformer_channel": (
        partial(_of, "qkformer", "QKFormer", qka_type="channel", **_STAGED),
        (3, 64, 64),
    ),
    "maxformer": (partial(_of, "maxformer", "MaxFormer", **_MAX), (3, 64, 64)),
    "maxformer_cifar": (partial(_of, "maxformer", "MaxFormer", cifar=True, **_MAX), (3, 32, 32)),
    "spike_driven_transformer": (
        partial(_of, "spike_driven_transformer", "SpikeDrivenTransformer", **_SPIKFORMER),
        (3, 64, 64),
    ),
    "meta_spikeformer": (
        partial(_meta, dims=(16, 32, 64, 96), heads=2, depths=(1, 2), classes=10),
        (3, 64, 64),
    ),
    "ms_resnet": (partial(_of, "ms_resnet", "MSResNet", **_MS), (3, 32, 32)),
    "max_resnet": (partial(_of, "ms_resnet", "MaxResNet", **_MS), (3, 32, 32)),
    "sew_resnet_add": (partial(_sew, block="BasicBlock", cnf="ADD"), (3, 32, 32)),
    "sew_resnet_and": (partial(_sew, block="BasicBlock", cnf="AND"), (3, 32, 32)),
    "sew_resnet_iand": (partial(_sew, block="BasicBlock", cnf="IAND"), (3, 32, 32)),
    "sew_resnext": (partial(_sew, block="Bottleneck", cnf="ADD", groups=4, width_per_group=8), (3, 32, 32)),
    "spiking_resnet": (partial(_resnet, block="BasicBlock"), (3, 32, 32)),
    "spiking_vgg": (_vgg, (3, 56, 56)),
    "mnist_net": (_parametric("MNISTNet"), (1, 28, 28)),
    "fashion_mnist_net": (_parametric("FashionMNISTNet"), (1, 28, 28)),
    "nmnist_net": (_parametric("NMNISTNet", steps=None), (4, 2, 34, 34)),
    "cifar10_net": (_parametric("CIFAR10Net"), (3, 32, 32)),
    "cifar10_dvs_net": (_parametric("CIFAR10DVSNet", steps=None), (4, 2, 128, 128)),
    "dvs_gesture_net": (_parametric("DVSGestureNet", steps=None), (4, 2, 128, 128)),
    "masnn": (partial(_of, "masnn", "MASNN", T=5, channels=(8, 8, 8), fc_hidden=16), (5, 2, 32, 32)),
    "att_ms_resnet": (partial(_of, "masnn", "AttMSResNet", **_MS), (3, 32, 32)),
}
_QKFORMER_10 = {"T": 4, "num_classes": 1000, "depths": (1, 2, 7)}
_REAL: Mapping[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "spikformer_4_384": (partial(_of, "spikformer", "spikformer_cifar10", T=4), (3, 32, 32)),
    "qkformer_10_384": (partial(_of, "qkformer", "qkformer_10_384", T=4), (3, 224, 224)),
    "qkformer_10_768": (
        partial(_of, "qkformer", "QKFormer", embed_dims=768, num_heads=(12, 12, 12), **_QKFORMER_10),
        (3, 224, 224),
    ),
    "spike_driven_transformer_v2": (partial(_meta, dims=(64, 128, 256, 360)), (3, 224, 224)),
}
"""At published size."""
SMALL: Mapping[str, Model] = {name: Model(*recipe) for name, recipe in _RECIPES.items()}
MODELS: Mapping[str, Model] = SMALL | {name: Model(*recipe) for name, recipe in _REAL.items()}
