"""What cannot be written in the end is refused before any work; what appears meanwhile is not replaced."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.cli_support import Place, fine, make_place, stas

from stas_neuro.errors import InputError
from stas_neuro.files import Output, check_outputs

# No input of these commands exists: what is said of the output comes before anything is read.
COMMANDS: dict[str, tuple[str, ...]] = {
    "compile": ("compile", "unread", "-o"),
    "compile, integers": ("compile", "unread", "--bits", "8", "--calibrate", "missing.npz", "-o"),
    "run": ("run", "missing", "--data", "missing.npz", "-o"),
    "verify": ("verify", "unread", "--data", "missing.npz", "-o"),
    "train": ("train", "--data", "missing.npz", "--preset", "tiny", "-o"),
    "fine-tune": ("train", "--data", "missing.npz", "--init", "unread", "--qat", "4", "-o"),
    "convert": ("convert", "missing", "--to", "lava", "-o"),
    "calibrate": ("calibrate", "missing.csv", "--profile", "loihi1", "-o"),
    "csv": ("compare", "missing", "--baseline", "missing", "--csv"),
    "picture": ("compare", "missing", "--baseline", "missing", "--picture"),
    "report": ("report", "missing", "-o"),
    "demo": ("demo", "-o"),
}
SUFFIXES = {"calibrate": ".toml", "picture": ".svg", "report": ".html"}
"""Commands whose output needs a suffix."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a model that is an empty file, in which no demo may begin."""

    def work(*_: object) -> None:
        raise AssertionError("the work has begun")

    monkeypatch.chdir(tmp_path)
    (tmp_path / "unread").touch()
    monkeypatch.setattr("stas_neuro.data.load_data", work)
    return tmp_path


def everything(home: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in home.rglob("*")}


def name_of(command: str, where: str = "mine") -> str:
    return f"{where}{SUFFIXES.get(command, '')}"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("force", [False, True])
def test_what_is_there_is_refused_before_anything_is_read(command: str, force: bool, home: Path) -> None:
    more = ("--force",) if force else ()
    (home / name_of(command)).write_text("my thesis")
    folder = home / name_of(command, "folder")
    folder.mkdir()
    (folder / "thesis.txt").write_text("my thesis")
    before = everything(home)
    for name in ("mine", "folder"):
        done = stas(*COMMANDS[command], name_of(command, name), *more)
        assert done.code == 2 and done.out == ""
        assert done.err.startswith(f"error: {name_of(command, name)} exists and "), done.err
        assert done.err.endswith("; choose another path\n") and done.err.count("\n") == 1
    assert everything(home) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_what_cannot_be_written_is_refused_before_anything_is_read(command: str, home: Path) -> None:
    (home / "file").write_text("")
    long = "x" * 300
    places = {
        f"file/{name_of(command)}": "Not a directory",
        f"{long}/{name_of(command)}": "File name too long",
    }
    places[name_of(command, long)] = "File name too long"
    if Path("/proc/self").exists():
        places[f"/proc/{name_of(command)}"] = ""
    if os.geteuid():
        (home / "locked").mkdir(mode=0o500)
        places[f"locked/new/{name_of(command)}"] = "Permission denied"
    before = everything(home)
    for place, why in places.items():
        done = stas(*COMMANDS[command], place)
        assert done.code == 2 and done.out == ""
        assert done.err.startswith(f"error: {place}: {why}"), done.err
        assert done.err.endswith("; choose a writable path\n") and done.err.count("\n") == 1
    assert everything(home) == before


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("outputs"), 3)


def test_outputs_and_inputs_are_apart(place: Place, tmp_path: Path) -> None:
    chip = tmp_path / "chip.toml"
    (tmp_path / "board.csv").write_text("run,synops,energy_j\na,1000,1e-6\nb,5000,5e-6\nc,9000,9e-6\n")
    fine("calibrate", tmp_path / "board.csv", "--profile", "loihi1", "--fit", "energy.synaptic_operation",
         "-o", chip)  # fmt: skip
    runs = ("compare", place.run, "--baseline", place.without)
    train = ("train", "--data", place.data, "--init", place.checkpoint, "--qat", "4", "--force")
    shutil.copytree(place.checkpoint, tmp_path / "trained" / "stage1")
    (tmp_path / "trained" / "log.jsonl").write_text("")
    refused: list[tuple[tuple[str | Path, ...], str]] = [
        ((*runs, "--csv", "same.svg", "--picture", "same.svg"), "same.svg is same.svg, another output"),
        ((*runs, "--csv", "same", "--picture", "same/a.svg"), "same/a.svg is inside same, another output"),
        (("report", place.run, "-o", place.run / "r.html"), f"is inside {place.run}, which is read"),
        ((*runs, "--csv", place.run / "s.csv"), f"is inside {place.run}, which is read"),
        ((*runs, "--picture", place.without / "s.png"), f"is inside {place.without}, which is read"),
        (("compile", place.checkpoint, "-o", place.checkpoint / "new"), "which is read"),
        (("run", place.bundle, "--data", place.data, "-o", place.bundle / "run"), "which is read"),
        (("verify", place.bundle, "--data", place.data, "-o", place.bundle / "c"), "which is read"),
        (("convert", place.bundle, "--to", "lava", "-o", place.bundle / "lava"), "which is read"),
        (("calibrate", tmp_path / "board.csv", "--profile", chip, "-o", chip, "--force"),
         f"{chip} is {chip}, which is read"),
        ((*train, "-o", place.checkpoint), "is not the directory of a training"),
        ((*train[:3], "--init", tmp_path / "trained" / "stage1", *train[5:], "-o", tmp_path / "trained"),
         f"contains {tmp_path / 'trained' / 'stage1' / 'config.json'}, which is read"),
    ]  # fmt: skip
    before = everything(place.run.parent), everything(tmp_path)
    for arguments, told in refused:
        done = stas(*arguments)
        assert done.code == 2 and told in done.err, done.err
        assert done.err.endswith("; choose another path\n") and done.err.count("\n") == 1
    assert (everything(place.run.parent), everything(tmp_path)) == before


def test_a_fine_tuned_model_may_lie_in_that_of_which_it_is_made(place: Place) -> None:
    arguments = ("--init", place.checkpoint, "--qat", "4", "-o", place.checkpoint / "4bit")
    assert "missing.npz not found" in stas("train", "--data", "missing.npz", *arguments).err


COMPARE = ("compare", "halting", "--baseline", "without", "--profiles", "loihi2")


def appear(path: Path) -> None:
    path.mkdir()
    (path / "thesis.txt").write_text("my thesis")


@pytest.mark.parametrize(
    ("work", "arguments"),
    [
        ("stas_neuro.compiler.Compilation", ("compile", "checkpoint", "-o", "new")),
        ("stas_neuro.compiler.Compilation", ("compile", "checkpoint", "-o", "new.zip")),
        ("stas_neuro.cli.runs.run_document", ("run", "halting.stas", "--data", "data.npz", "-o", "new")),
        ("stas_neuro.verifier.verify", ("verify", "halting.stas", "--data", "data.npz", "-o", "new")),
        ("stas_neuro.bundle.load_bundle", ("convert", "halting.stas", "--to", "lava", "-o", "new")),
        ("stas_neuro.energy.compare", ("compare", "halting", "--baseline", "without", "--csv", "new")),
        (
            "stas_neuro.energy.compare",
            ("compare", "halting", "--baseline", "without", "--picture", "new.svg"),
        ),
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_what_appears_during_the_work_stays(
    work: str,
    arguments: tuple[str, ...],
    force: bool,
    place: Place,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = tmp_path / "home"
    shutil.copytree(place.run.parent, home)
    monkeypatch.chdir(home)
    module, name = work.rsplit(".", 1)
    target = f"{module}.{name}"
    real = _resolve(target)

    def slow(*given: object, **options: object) -> object:
        appear(home / arguments[-1])
        return real(*given, **options)

    monkeypatch.setattr(target, slow)
    done = stas(*arguments, *(("--force",) if force else ()))
    assert done.code == 2 and f"{arguments[-1]} exists and " in done.err, done.err
    assert (home / arguments[-1] / "thesis.txt").read_text() == "my thesis"
    assert not [path.name for path in home.iterdir() if path.name.startswith(".")]


def _resolve(target: str) -> Callable[..., object]:
    import importlib

    parts = target.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            found = getattr(found, part)
        assert callable(found)
        return found
    raise AssertionError(target)


def test_an_earlier_output_that_appears_is_replaced_by_force_only(tmp_path: Path) -> None:
    told = r"out exists; choose another path or use --force"
    plain, forced = (Output.marked(tmp_path / "out", "marker", force=force) for force in (False, True))
    with pytest.raises(InputError, match=told), plain.filled():
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "marker").write_text("first")
    assert (tmp_path / "out" / "marker").read_text() == "first"
    with forced.filled() as fresh:
        (fresh / "marker").write_text("second")
    assert (tmp_path / "out" / "marker").read_text() == "second"


def test_links_stay_links(tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    (tmp_path / "dangling").symlink_to("place/new")
    output = Output(
        path=tmp_path / "dangling", is_earlier=lambda path: True, otherwise="is another", force=False
    )
    check_outputs([output, None], reads=[None, tmp_path / "none"])
    output.write(b"1")
    assert (tmp_path / "dangling").is_symlink() and (tmp_path / "place" / "new").read_bytes() == b"1"
    with pytest.raises(InputError, match=r"dangling is .*new, which is read"):
        other = Output(path=tmp_path / "dangling", is_earlier=lambda path: True, otherwise="", force=True)
        check_outputs([other], reads=[tmp_path / "place" / "new"])


def test_pictures_and_tables_are_replaced_by_force_where_they_are_ours(place: Place, tmp_path: Path) -> None:
    from PIL import Image

    files = ("--csv", tmp_path / "s.csv", "--picture", tmp_path / "s.png")
    arguments = ("compare", place.run, "--baseline", place.without, "--profiles", "loihi2", *files)
    fine(*arguments)
    assert "--force" in stas(*arguments).err
    fine(*arguments, "--force")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "s.png")
    assert "s.png exists and is not a picture of stas-neuro" in stas(*arguments, "--force").err
    (tmp_path / "s.png").unlink()
    (tmp_path / "s.csv").write_text("name,salary\n")
    assert "s.csv exists and is not a comparison as CSV" in stas(*arguments, "--force").err
