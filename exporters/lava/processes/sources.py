"""Where data enters and leaves the network: the images and the logits."""

from __future__ import annotations

import numpy as np

from stas_neuro.exporters.lava.lava_api import CPU, LoihiProtocol, implements, requires, tag
from stas_neuro.exporters.lava.processes.base import NodeModel, NodeProcess
from stas_neuro.ir import Array


class Input(NodeProcess):
    """Holds the batch, tensor "images" (B, *shape) or (B, steps, *shape), and sends one frame a step."""


@implements(proc=Input, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt", "fixed_pt")
class PyInputModel(NodeModel):
    """Sends an image once, or its frames step by step."""

    def _setup(self) -> None:
        images = self.tensors["images"]
        self.by_step = images.ndim == len(self.node.shape) + 2
        self.images = images

    def _compute(self, **inputs: Array) -> Array:
        frames: Array = self.images[self.now.image]
        frame: Array = frames[self.now.step] if self.by_step else frames
        return frame


class Output(NodeProcess):
    """Takes in the logits x (classes,), or the integers that stand for them, one message an image."""


@implements(proc=Output, protocol=LoihiProtocol)
@requires(CPU)
@tag("floating_pt", "fixed_pt")
class PyOutputModel(NodeModel):
    """Keeps the logits of all images as record "logits" (B, classes) and reports each finished image."""

    def _setup(self) -> None:
        self.logits = np.zeros((self.run_spec.images, *self.inlets["x"].shape), self.dtype)
        self.record["logits"] = self.logits

    def _compute(self, x: Array) -> None:
        self.logits[self.now.image] = x
        if self.reporter is not None:
            self.reporter.event(images=self.now.image + 1)
