"""Training that is killed and resumed ends as if it had not been; what cannot be resumed is refused."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.cli_support import stas
from support.training_runs import CONFIG, OPTIONS, assert_same_run, digits, log_of, train_until_killed

from stas_neuro.data import LabelledImages
from stas_neuro.errors import InputError
from stas_neuro.files import locked_directory
from stas_neuro.models.checkpoint import load_checkpoint, load_training, save_checkpoint
from stas_neuro.training.options import TrainOptions
from stas_neuro.training.train import train


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in one order, whatever the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    directory = tmp_path_factory.mktemp("whole")
    torch.set_num_threads(1)
    train(CONFIG, digits(), OPTIONS, directory)
    return directory


# Being killed -------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


@pytest.mark.parametrize(
    "when",
    [
        ("epoch", 1, 0, None),
        ("epoch", 1, 1, None),  # stage 1 is done, its checkpoint not yet written
        ("batch", 2, 0, 0),
        ("epoch", 2, 0, None),
        ("epoch", 2, 1, None),  # all is done but the last checkpoint
    ],
)
def test_a_resumed_run_ends_as_the_whole_one(tmp_path: Path, whole: Path, when: tuple[Any, ...]):
    def report(event: dict[str, Any]) -> None:
        if (event["event"], event["stage"], event["epoch"], event.get("step")) == when:
            raise Killed

    with pytest.raises(Killed):
        train(CONFIG, digits(), OPTIONS, tmp_path, report=report)
    assert not (tmp_path / "model.safetensors").exists()
    # A kill may come between state and log, or leave a part of a line.
    (tmp_path / "log.jsonl").write_text((tmp_path / "log.jsonl").read_text()[:-30])
    train(CONFIG, digits(), OPTIONS, tmp_path, resume=True)
    assert_same_run(tmp_path, whole)


def test_a_process_killed_in_the_midst_of_an_epoch(tmp_path: Path, whole: Path):
    # Not a copy of this process: torch refuses to train in one if it had threads of its own before.
    process = multiprocessing.get_context("spawn").Process(target=train_until_killed, args=(tmp_path,))
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    assert len(log_of(tmp_path)) == 3
    assert not (tmp_path / "model.safetensors").exists()
    events: list[dict[str, Any]] = []
    train(CONFIG, digits(), OPTIONS, tmp_path, resume=True, report=events.append)
    assert {(event["stage"], event["epoch"]) for event in events} == {(2, 1)}
    assert_same_run(tmp_path, whole)


def test_resuming_a_finished_run_changes_nothing(tmp_path: Path, whole: Path):
    train(CONFIG, digits(), OPTIONS, tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    events: list[dict[str, Any]] = []
    train(CONFIG, digits(), OPTIONS, tmp_path, resume=True, report=events.append)
    assert events == []
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert_same_run(tmp_path, whole)


def test_resuming_nothing_starts(tmp_path: Path, whole: Path):
    train(CONFIG, digits(), OPTIONS, tmp_path / "new", resume=True)
    assert_same_run(tmp_path / "new", whole)


def test_a_run_begun_anew_forgets_the_one_it_replaces(tmp_path: Path):
    """Killed before its first epoch ends, it must not be resumed from what the earlier run left."""
    train(CONFIG, digits(), OPTIONS, tmp_path)

    def report(event: dict[str, Any]) -> None:
        raise Killed

    with pytest.raises(Killed):
        train(CONFIG, digits(), OPTIONS, tmp_path, report=report)
    assert log_of(tmp_path) == []
    events: list[dict[str, Any]] = []
    train(CONFIG, digits(), OPTIONS, tmp_path, resume=True, report=events.append)
    assert (events[0]["stage"], events[0]["epoch"]) == (1, 0)


def test_what_cannot_be_resumed(tmp_path: Path, whole: Path):
    options = TrainOptions(stage1_epochs=1, stage2_epochs=0, batch_size=32, holdout=32)
    train(CONFIG, digits(), options, tmp_path)
    state = tmp_path / "last.safetensors"
    longer = TrainOptions(stage1_epochs=2, stage2_epochs=0, batch_size=32, holdout=32)
    data = digits()
    other_labels = LabelledImages(data.images, data.labels[::-1].copy(), data.classes, data.source)
    for config, given, settings, init in (
        (CONFIG, data, longer, None),
        (CONFIG.replace(epsilon=0.2), data, options, None),
        (CONFIG, other_labels, options, None),
        (CONFIG, data, options, whole),
    ):
        with pytest.raises(
            InputError, match=r"last\.safetensors: belongs to a run with other options, data or"
        ):
            train(config, given, settings, tmp_path, init=init, resume=True)
    content = state.read_bytes()
    model = load_checkpoint(tmp_path)
    for damaged in (content[:-8], b"", b"\xff" * 40, (tmp_path / "model.safetensors").read_bytes()):
        state.write_bytes(damaged)
        with pytest.raises(InputError, match=r"last\.safetensors: damaged .*; train again without --resume"):
            train(CONFIG, digits(), options, tmp_path, resume=True)
    assert torch.equal(load_checkpoint(tmp_path).head.weight, model.head.weight)


def changed(name: str, change):
    return lambda progress, tensors: tensors.update({name: change(tensors[name])})


def said(**changes: object):
    return lambda progress, tensors: progress.update(changes)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch of two."""
    directory = tmp_path_factory.mktemp("begun")

    def report(event: dict[str, Any]) -> None:
        if event["event"] == "epoch":
            raise Killed

    with pytest.raises(Killed):
        train(CONFIG, digits(), ONE_STAGE, directory, report=report)
    return directory


ONE_STAGE = TrainOptions(stage1_epochs=2, stage2_epochs=0, batch_size=32, holdout=32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (said(stage="1"), r"damaged: progress: stage: Input should be a valid integer"),
        (said(stage=2), r"damaged \(there is no epoch 0 of stage 2\)"),
        (said(stage=2**31), r"damaged \(there is no epoch 0 of stage 2147483648\)"),
        (said(epoch=-1), r"damaged \(there is no epoch -1 of stage 1\)"),
        (said(epoch=2**62), r"damaged: progress: epoch: is 4611686018427387904, the limit for integers is"),
        (said(epoch=1), r"damaged \(has 1 lines for 2 epochs\)"),
        (said(log=["{}", "{}"]), r"damaged \(has 2 lines for 1 epochs\)"),
        (said(log=["[]"]), r"damaged \(line 1 of its log is not one line with a JSON object\)"),
        (said(log=["{\n}"]), r"damaged \(line 1 of its log is not one line"),
        (said(log=["{"]), r"damaged \(line 1 of its log is not JSON"),
        (said(log=None), r"damaged: progress: log: Input should be a valid"),
        (said(key=None), r"damaged: progress: key: Input should be a valid string"),
        (lambda progress, tensors: progress.clear(), r"damaged: progress: stage: Field required"),
        (lambda progress, tensors: tensors.pop("model.head.bias"), r"model\.head\.bias is missing"),
        (lambda progress, tensors: tensors.pop("optimiser.0.step"), r"optimiser\.0\.step is missing"),
        (lambda p, tensors: tensors.update({"optimiser.x": torch.ones(1)}), r"optimiser\.x is unknown"),
        (changed("model.head.weight", lambda w: w[:1]), r"model\.head\.weight has shape \(1, 8\), not"),
        (changed("model.head.weight", lambda w: w * float("nan")), r"model\.head\.weight has NaN"),
        (changed("optimiser.3.exp_avg", lambda m: m[:1]), r"optimiser\.3\.exp_avg has shape"),
        (changed("optimiser.3.exp_avg", lambda m: m.long()), r"optimiser\.3\.exp_avg is I64, not"),
        (
            changed("optimiser.3.exp_avg_sq", lambda m: -m - 1),
            r"damaged \(optimiser\.3 is not the result of 3 steps\)",
        ),
        (
            changed("optimiser.3.step", lambda n: n + 1),
            r"damaged \(optimiser\.3 is not the result of 3 steps\)",
        ),
    ],
)
def test_a_damaged_state_is_refused_as_a_whole(tmp_path: Path, begun: Path, change, message: str):
    state = tmp_path / "last.safetensors"
    tensors = load_file(begun / state.name)
    with safe_open(begun / state.name, "pt") as file:
        progress = json.loads(file.metadata()["progress"])
    change(progress, tensors)
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, state, {"progress": json.dumps(progress)})
    with pytest.raises(InputError, match=rf"last\.safetensors: {message}.*train again without --resume"):
        train(CONFIG, digits(), ONE_STAGE, tmp_path, resume=True)
    assert os.listdir(tmp_path) == [state.name]  # nothing of it was used


def test_a_pipe_is_no_state(tmp_path: Path):
    os.mkfifo(tmp_path / "last.safetensors")
    with pytest.raises(InputError, match=r"last\.safetensors: damaged or truncated \(is a pipe or a device"):
        train(CONFIG, digits(), ONE_STAGE, tmp_path, resume=True)


@pytest.mark.parametrize("held_out", [None, "0" * 64])
def test_a_run_that_held_out_other_images_is_not_resumed(tmp_path: Path, held_out: str | None):
    """As the first versions did, whose state does not say which."""
    options = TrainOptions(stage1_epochs=1, stage2_epochs=0, batch_size=32, holdout=32)
    train(CONFIG, digits(), options, tmp_path)
    state = tmp_path / "last.safetensors"
    with safe_open(state, "pt") as file:
        progress = json.loads(file.metadata()["progress"])
    progress["held_out"] = held_out
    if held_out is None:
        del progress["held_out"]
    save_file(load_file(state), state, {"progress": json.dumps(progress)})
    with pytest.raises(
        InputError, match=r"last\.safetensors: was started by a version that held out other images"
    ):
        train(CONFIG, digits(), options, tmp_path, resume=True)


# Two at once --------------------------------------------------------------------------------------------


def test_two_trainings_do_not_share_a_directory(tmp_path: Path, whole: Path):
    refused = f"another training is running there (process {os.getpid()}); wait until it has ended, or choose"
    tried = []

    def report(event: dict[str, Any]) -> None:
        if (event["event"], event["stage"]) == ("epoch", 1):
            for resume in (False, True):
                with pytest.raises(InputError, match=re.escape(f"{tmp_path}: {refused}")):
                    train(CONFIG, digits(), OPTIONS, tmp_path, resume=resume)
                tried.append(stas("train", "--data", "digits", "--preset", "tiny", "-o", tmp_path, "--force"))

    train(CONFIG, digits(), OPTIONS, tmp_path, report=report)
    assert len(tried) == 4 and all(done.code == 2 and refused in done.err for done in tried)
    assert_same_run(tmp_path, whole)


HOLD = """
import sys
from pathlib import Path
from stas_neuro.files import locked_directory
with locked_directory(Path(sys.argv[1]), "a test"):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_lock_goes_with_its_process(tmp_path: Path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "locked\n"
        with pytest.raises(InputError, match=rf"another training is running there \(process {process.pid}\)"):
            train(CONFIG, digits(), OPTIONS, tmp_path)
        process.kill()
        process.wait()
        with locked_directory(tmp_path, "another training"):
            pass


# Starting from a checkpoint -----------------------------------------------------------------------------


def test_init_starts_from_a_checkpoint(tmp_path: Path, whole: Path):
    """Stage 2 from the stage 1 of another run is that run's own stage 2."""
    options = TrainOptions(**OPTIONS.to_json() | {"stage1_epochs": 0})
    train(CONFIG, digits(), options, tmp_path, init=whole / "stage1")
    ours, theirs = (load_checkpoint(run) for run in (tmp_path, whole))
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor), name
    assert not (tmp_path / "stage1").exists()


def test_init_of_other_layers(tmp_path: Path, whole: Path):
    with pytest.raises(InputError, match="its layers differ from those of the model to train; use the same"):
        train(CONFIG.replace(depth=1), digits(), OPTIONS, tmp_path, init=whole)
    with pytest.raises(InputError, match=r"config\.json not found"):
        train(CONFIG, digits(), OPTIONS, tmp_path, init=tmp_path / "nothing")


def test_stage_2_moves_the_statistics_of_tokens(whole: Path):
    before, after = (load_checkpoint(whole / part).state_dict() for part in ("stage1", "."))
    moved = [name for name in before if name.startswith("blocks.") and name.endswith("running_mean")]
    assert len(moved) == 12
    assert not any(torch.equal(before[name], after[name]) for name in moved)


def test_checkpoints_of_training_can_be_read_by_others(whole: Path):
    """Atomic writing leaves no private or temporary files."""
    files = {path.relative_to(whole).as_posix() for path in whole.rglob("*") if path.is_file()}
    names = {"config.json", "model.safetensors"}
    assert files == names | {f"stage1/{name}" for name in names} | {"last.safetensors", "log.jsonl"}
    umask = os.umask(0)
    os.umask(umask)
    assert {(whole / name).stat().st_mode & 0o777 for name in files} == {0o666 & ~umask}


def test_save_checkpoint_replaces_whole_files(tmp_path: Path, whole: Path):
    model = load_checkpoint(whole)
    save_checkpoint(model, tmp_path, load_training(whole))
    before = (tmp_path / "model.safetensors").stat().st_ino
    save_checkpoint(model, tmp_path, load_training(whole))
    assert (tmp_path / "model.safetensors").stat().st_ino != before
    assert (tmp_path / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
