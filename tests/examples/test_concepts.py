"""The pictures of docs/concepts.md are drawn."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import EXAMPLES


@pytest.mark.slow
def test_three_pictures_are_drawn(tmp_path: Path) -> None:
    subprocess.run([sys.executable, EXAMPLES / "concepts.py", tmp_path], check=True)
    drawn = {path.stem.removeprefix("concept-"): path.read_text() for path in tmp_path.iterdir()}
    assert sorted(drawn) == ["halting", "intervals", "schedules"]
    assert "with halting" in drawn["halting"] and "structures" in drawn["intervals"]
    assert "48 hardware steps" in drawn["schedules"] and "15 hardware steps" in drawn["schedules"]
