"""What people read of the commands: hints, and cores by what they hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli_support import Place, fine, make_place, stas


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("report"), 4)


def test_compare_tells_what_a_chip_that_can_gate_cores_is_for(place: Place, tmp_path: Path) -> None:
    fine("compile", place.checkpoint, "-o", tmp_path / "net", "--placement", "token-major")
    fine("run", tmp_path / "net", "--data", place.data, "-o", tmp_path / "run")
    chips = ("--profiles", "loihi2,loihi2-gated-whatif")
    told = fine("compare", tmp_path / "run", *chips).out
    assert "loihi2-gated-whatif is priced without power gating of cores; --gating power" in told
    assert "loihi2 is priced as if" not in told
    gated = fine("compare", tmp_path / "run", *chips, "--gating", "power").out
    assert "is priced as if" not in gated and "gating power" in gated


def test_a_core_is_one_line_of_100_columns_by_what_contains_its_layers(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    bundle = tmp_path / "net"
    fine("compile", place.checkpoint, "-o", bundle, "--placement", "token-major", "--groups", "2")
    cores = fine("inspect", bundle, "--json").json["utilisation"]["cores"]
    lines = table_of_cores(fine("inspect", bundle, "--cores").out)
    assert [line.split()[0] for line in lines] == [str(core) for core in range(len(cores))]
    block = next(
        index for index, core in enumerate(cores) if all(x.startswith("blocks.0.") for x in core["layers"])
    )
    assert f"blocks.0: all {len(cores[block]['layers'])}" in lines[block]
    chip = tmp_path / "small.toml"
    most = max(core["neurons"] for core in cores)
    chip.write_text(
        'schema_version = 1\nname = "small"\ntitle = "Small"\nextends = "loihi2"\n[limits.neurons_per_core]\n'
        f'value = {most - 1}\nlow = {most - 1}\nhigh = {most - 1}\nunit = "1"\nbasis = "assumed"\n'
        'source = "davies2018"\nnote = "a test"\n'
    )
    small = table_of_cores(stas("inspect", bundle, "--cores", "--profile", chip).out)
    for core, line in zip(cores, small, strict=True):
        assert (f"{most} > {most - 1}" in line) == (core["neurons"] == most)


def table_of_cores(text: str) -> list[str]:
    """Lines below the headings of the second table."""
    lines = text.split("tile  neurons")[1].split("─\n")[1].splitlines()
    return lines[: lines.index("")]
