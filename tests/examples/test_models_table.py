"""The table of networks: each stage runs, and one that fails gives its reason."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import EXAMPLES, ROOT

SCRIPT = EXAMPLES / "models_table.py"
MODELS = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import torch
from torch import nn
from support.foreign_neurons import MultiStepLIFNode

class Network(nn.Module):
    def __init__(self, last):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head, self.last = nn.Conv2d(1, 4, 3), nn.Linear(4, 3), last
        self.lif = MultiStepLIFNode(v_threshold=0.2)

    def forward(self, x):
        spikes = self.lif(self.conv(x).unsqueeze(0).repeat(2, 1, 1, 1, 1))
        return self.last(self.head(spikes.mean((0, 3, 4))))

class Model:
    axes = "BCHW"
    def __init__(self, last):
        self.last = last
    def make(self):
        return Network(self.last).eval()
    def images(self, count):
        return torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(1))

MODELS = {{"good": Model(nn.Identity()), "soft": Model(nn.Softmax(-1))}}
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "models.py").write_text(MODELS)
    return tmp_path / "models.py"


def _check(told: str) -> None:
    lines = told.splitlines()
    good, soft = ([each.strip() for each in line.split("|")[1:-1]] for line in lines[2:4])
    assert good[0] == "good" and all(cell.startswith("yes, ") for cell in good[1:])
    assert "core" in good[6] and good[7] == "yes, 1 chip" and good[8].endswith(" J")
    assert soft == ["soft", "**no**", "", "", "", "", "", "", ""]
    assert any("- good: equal to the module in float64 on 1 images" in line for line in lines)
    assert any(line.startswith("- soft: not imported:") and "softmax" in line for line in lines)


def test_stages_and_reasons(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["models_table.py", str(models)])
    monkeypatch.setattr(sys, "path", list(sys.path))
    runpy.run_path(str(SCRIPT), run_name="__main__")
    _check(capsys.readouterr().out)


@pytest.mark.slow
def test_stages_in_processes_of_their_own(models: Path) -> None:
    command = [sys.executable, str(SCRIPT), str(models), "--figures"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[2].count(" MiB") == 8 and "not imported" in done.stdout
