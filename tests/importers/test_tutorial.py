"""The code of docs/importing.md runs as it stands; only the training is shorter."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from support.cli_support import fine

import stas_neuro
from stas_neuro.errors import InputError
from stas_neuro.ir import Graph

ROOT = Path(__file__).parents[2]
NETWORK = ROOT / "examples" / "small_transformer.py"


@pytest.fixture
def _at_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.mark.slow
@pytest.mark.usefixtures("_at_root")
def test_the_tutorial_runs_to_a_certificate(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "importing.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert "open_model(module, example=images)" in text and len(blocks) == 4
    code = "\n".join(blocks)
    assert "range(10)" in code
    names: dict[str, object] = {}
    exec(compile(code.replace("range(10)", "range(1)"), "importing.md", "exec"), names)
    certificate = names["certificate"]
    assert isinstance(certificate, stas_neuro.verifier.Verification)
    assert [part.arithmetic for part in certificate.parts] == ["float", "fixed"]
    assert "Interval" in capsys.readouterr().out


def test_the_tutorials_network_compiles_on_the_command_line(tmp_path: Path) -> None:
    sys.path.insert(0, str(NETWORK.parent))
    try:
        from small_transformer import NEURONS, make
    finally:
        sys.path.remove(str(NETWORK.parent))
    network = make().eval()
    torch.save({"state_dict": network.state_dict()}, tmp_path / "net.pth")
    images = np.random.default_rng(0).random((4, 1, 8, 8), np.float32) * 4
    classes = np.array([f"class {index}" for index in range(10)])
    np.savez(tmp_path / "images.npz", example=images, classes=classes)
    done = fine(
        *("compile", f"{NETWORK}:make", "--weights", tmp_path / "net.pth"),
        *("--example", tmp_path / "images.npz", "-o", tmp_path / "net.stas"),
    )
    assert "note: equal to the module in float64 on 4 images: all " in done.out
    bundle = stas_neuro.load_bundle(tmp_path / "net.stas")
    assert bundle.provenance.source == f"{NETWORK}:make"
    assert sorted(bundle.provenance.source_sha256) == ["images.npz", "net.pth", "small_transformer.py"]
    assert bundle.graph.classes == tuple(classes)
    imported = stas_neuro.open_model(network, example=images, neurons=NEURONS, classes=tuple(classes))
    assert isinstance(imported, Graph)
    assert stas_neuro.compile(imported).graph == bundle.graph
    left_out = stas_neuro.verify(bundle, np.zeros((1, 1, 8, 8), np.uint8)).left_out
    assert left_out["torch"] == f"the bundle was compiled from {NETWORK}:make"
    with pytest.raises(InputError, match=r"small_transformer\.py:make, whose code is not executed again"):
        stas_neuro.replay(bundle)
