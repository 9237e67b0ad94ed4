"""The example of A-ViT: its halting, its count of operations, and a run of it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from support.cli_support import make_checkpoint
from support.paths import EXAMPLES
from torch.utils.flop_counter import FlopCounterMode

from stas_neuro.data import load_data
from stas_neuro.models.config import preset


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield importlib.import_module("a_vit")
    sys.modules.pop("a_vit", None)


def network(example: ModuleType, passes: int) -> torch.nn.Module:
    torch.manual_seed(0)
    config = preset("tiny").replace(mean=(0.5,), std=(0.5,))
    model: torch.nn.Module = example.AVit(config, passes).eval()
    return model


@pytest.mark.parametrize("passes", [1, 4])
def test_macs_without_halting_are_those_that_torch_counts(example: ModuleType, passes: int) -> None:
    model = network(example, passes)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        output = model(torch.randn(3, 1, 8, 8), None)
    assert output.visits.shape == (3, 2 * passes, 16) and output.visits.all()
    assert model.macs(output.visits) == counter.get_total_flops() / 2 / 3


def test_tokens_halt_by_their_score_and_are_not_computed_with_any_more(example: ModuleType) -> None:
    model, images = network(example, 4), torch.randn(5, 1, 8, 8)
    with torch.inference_mode():
        full = model(images, 0.0)
        some = model(images, 0.7)
        at_once = model(images, 0.999)
    assert (some.visits.diff(dim=1) <= 0).all()  # none revives
    assert at_once.visits.sum(1).max() < some.visits.sum(1).mean() < full.visits.sum(1).mean()
    assert model.macs(at_once.visits) < model.macs(some.visits) < model.macs(full.visits)
    block, live = model.blocks[0], (torch.arange(16) < 7).float().expand(2, 16)
    z = torch.randn(2, 16, 32) * live.unsqueeze(-1)
    with torch.inference_mode():
        masked, alone = block(z, live), block(z[:, :7], live[:, :7])
    assert torch.allclose(masked[:, :7], alone, atol=1e-6) and not masked[:, 7:].any()


def test_the_ponder_loss_makes_tokens_halt_earlier(example: ModuleType) -> None:
    model = network(example, 4)
    ponder = model(torch.randn(8, 1, 8, 8), 0.5).ponder
    ponder.backward()
    gradients = [weight.grad for weight in model.blocks.parameters() if weight.grad is not None]
    assert any(gradient.abs().max() > 0 for gradient in gradients)


@pytest.mark.slow
def test_the_example_prints_a_row_for_each_threshold(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = make_checkpoint(tmp_path / "tiny", num_classes=10, classes=load_data("digits").classes)
    monkeypatch.setattr(sys, "argv", ["a_vit.py", str(checkpoint)])
    example.main()
    told = capsys.readouterr().out
    assert told.count("no halting") == 2 and "1 seeds, 360 test images" in told
