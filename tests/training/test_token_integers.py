"""Training with integers computes maps, slices, pools and means of tokens as the integer reference does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.fixed_random import pixels_for
from support.ir_random import HEADS, Recipe, build

from stas_neuro.passes import Quantise
from stas_neuro.reference import run_reference
from stas_neuro.training.integers import program_of


@pytest.mark.parametrize("membrane", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_the_program_is_the_reference(head: str, membrane: bool) -> None:
    recipe: Any = Recipe(
        norm=False, halting="off", stem="sps", shrink="pool", head=head, membrane=membrane, seed=2,
        outlast=membrane,
    )  # fmt: skip
    folded = build(recipe)
    graph = Quantise()(folded)
    program = program_of(folded, Quantise())  # the graph says all that it computes with
    pixels = pixels_for(graph, 4)
    images = (torch.from_numpy(pixels / 255).float() - program.mean) / program.std
    logits = program(images).logits
    np.testing.assert_allclose(logits.detach(), run_reference(graph, pixels).logits, rtol=1e-6)
    logits.sum().backward()
    for name in ("shrink.fc", "shrink.conv"):
        weight = program.layer(name).weight
        assert weight.grad is not None and weight.grad.any()
