"""Runs, a frontier and a certificate for pages, small and quick to make."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.cli_support import fine, make_checkpoint, make_data

CHIPS = "loihi2,loihi1,cmos45,speck"
"""One that runs are placed for, one that refuses them, one without cores, and one without prices."""
IMAGES = 4


@dataclass(frozen=True)
class Material:
    """Paths of what a page is made from, with labels where a run has one."""

    halting: Path
    without: Path
    frontier: Path
    certificate: Path
    data: Path

    @property
    def arguments(self) -> list[str]:
        """Arguments of the command report."""
        first = (self.halting, f"stage 1={self.without}", self.frontier, self.certificate)
        return [*map(str, first), "--profiles", CHIPS, "--images", "0,2"]


def make_material(home: Path) -> Material:
    """Make it by the commands; the frontier is written by hand."""
    checkpoint, data = make_checkpoint(home / "checkpoint"), make_data(home / "data.npz", IMAGES)
    for name, more in (("halting", ()), ("without", ("--accumulate", "off"))):
        bundle = home / f"{name}.stas"
        fine("compile", checkpoint, *more, "--placement", "token-major", "-o", bundle)
        fine("run", bundle, "--data", data, "-o", home / name)
    certificate = home / "certificate.json"
    fine("verify", home / "halting.stas", "--data", data, "--limit", "1", "-o", certificate)
    (home / "best").mkdir()
    (home / "best" / "frontier.json").write_text(json.dumps(frontier_document()))
    return Material(home / "halting", home / "without", home / "best", certificate, data)


def frontier_document() -> dict[str, Any]:
    """Return a frontier of two points and a rival."""
    points = [
        point("raster epsilon=0.2", "raster", 2e-4, 0.9, ["frontier", "best"]),
        point("full", "full", 4e-4, 0.92, ["frontier"]),
        point("<b>rival</b> static steps=1", "static", 3e-4, 0.8, ["one step"], model="rival"),
    ]
    return {
        "profile": "loihi2", "mode": "single", "objective": "energy", "events_only": None, "images": [32, 32],
        "networks": 9, "deployments": 90, "points": points,
    }  # fmt: skip


def point(
    network: str, family: str, energy: float, accuracy: float, roles: list[str], model: str = ""
) -> dict[str, Any]:
    def span(value: float) -> dict[str, float]:
        return {"value": value, "low": value / 2, "high": value * 3}

    return {
        "roles": roles, "network": network, "model": model, "family": family, "deployment": {}, "cores": 4,
        "accuracy": accuracy, "accuracy_interval": [accuracy - 0.1, accuracy + 0.05],
        "price": {"energy_j": span(energy), "latency_s": span(1e-3), "throughput_images_per_s": span(1e3)},
        "structural_range": {"energy_j": span(energy), "dynamic_energy_j": None, "latency_s": span(1e-3)},
        "disclaimer": "estimated from published figures, not measured",
    }  # fmt: skip
