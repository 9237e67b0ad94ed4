"""Labels are counted as the model counts them, and samples keep the shares of the classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cli_support import CLASSES, fine, make_checkpoint, make_data

from stas_neuro import api, compiler, verify
from stas_neuro.bundle import load_bundle
from stas_neuro.data import LabelledImages, load_data
from stas_neuro.errors import InputError
from stas_neuro.labels import bias_of_first, check_every_class_occurs, draw, listing, match_classes, sample


def data_of(labels: list[int] | np.ndarray, classes: tuple[str, ...] = ()) -> LabelledImages:
    """Images that are only numbers, with labels."""
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
    return LabelledImages(images, np.asarray(labels), classes, "d.npz")


# Matching -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "names", "matched"),
    [
        ([0, 2, 1], ("cat", "dog", "hen"), [0, 2, 1]),
        ([0, 2, 1], ("hen", "cat", "dog"), [2, 1, 0]),
        ([1, 0, 1], ("hen", "dog"), [1, 2, 1]),
        ([0, 0, 0], ("dog",), [1, 1, 1]),
        ([0, 2, 2], (), [0, 2, 2]),
    ],
)
def test_labels_are_matched(labels: list[int], names: tuple[str, ...], matched: list[int]) -> None:
    data = match_classes(data_of(labels, names), ("cat", "dog", "hen"))
    assert data.labels is not None and data.labels.tolist() == matched
    assert data.classes == ("cat", "dog", "hen")
    again = match_classes(data, data.classes)
    assert again.labels is not None and again.labels.tolist() == matched


def test_a_model_with_only_numbers_takes_any_names_for_them() -> None:
    numbers = ("0", "1", "2")
    by_number = match_classes(data_of([0, 2, 1], ("cat", "dog", "hen")), numbers)
    by_name = match_classes(data_of([0, 2, 1], ("2", "0", "1")), numbers)
    assert by_number.labels is not None and by_number.labels.tolist() == [0, 2, 1]
    assert by_name.labels is not None and by_name.labels.tolist() == [2, 1, 0]
    for names in (("cat", "dog"), ("0", "1", "cat"), ("cat", "dog", "hen", "emu")):
        with pytest.raises(InputError, match="the model has no class"):
            match_classes(data_of([0, 1, 1], names), numbers)
    with pytest.raises(InputError, match="the model has no class 0, 1, 2"):
        match_classes(data_of([0, 1, 1], numbers), ("cat", "dog", "hen"))


def test_classes_that_a_model_does_not_know() -> None:
    with pytest.raises(InputError) as caught:
        match_classes(data_of([0, 1], ("dog", "emu")), ("cat", "dog"))
    assert str(caught.value) == (
        "d.npz: the model has no class emu; the data have dog, emu, the model cat, dog; use the model's "
        "class names, or remove the names to match labels by number"
    )
    with pytest.raises(InputError) as caught:
        match_classes(data_of([1, 0, 5, 2]), ("cat", "dog"))
    assert str(caught.value) == (
        "d.npz: the label of image 2 is 5, outside 0..1, and so are 1 more; number the model's classes, cat, "
        "dog, from 0"
    )
    unlabelled = LabelledImages(np.zeros((1, 1, 1, 1)), None, ("emu",))
    assert match_classes(unlabelled, ("cat", "dog")).labels is None


def test_a_new_model_needs_images_of_every_class() -> None:
    check_every_class_occurs(data_of([1, 0]))
    for data, message in (
        (data_of([0, 3, 5]), r"no image is labelled 1, 2, 4, and a new model cannot learn"),
        (data_of([0, 60_000]), r"no image is labelled 1, 2, .*, 20 and 59979 more, and"),
        (data_of([0, 1], ("a", "b", "c")), "no image is labelled c, and"),
        (data_of([0, 0]), "all images are of one class, 0; use images of at least two"),
        (data_of([0, 0], ("a",)), "all images are of one class, a"),
        (LabelledImages(np.zeros((1, 1, 1, 1)), None), "has no labels"),
    ):
        with pytest.raises(InputError, match=message):
            check_every_class_occurs(data)
    assert listing(["a"] * 21) == ", ".join("a" * 20) + " and 1 more"


# Drawing ------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.data(), st.integers(-3, 3))
def test_a_draw_keeps_shares(labels: list[int], choice: st.DataObject, seed: int) -> None:
    data = data_of(labels)
    count = choice.draw(st.integers(0, len(labels)))
    drawn, rest = draw(data, count, seed)
    assert (len(drawn), len(rest)) == (count, len(labels) - count)
    numbers = np.concatenate([drawn.images.ravel(), rest.images.ravel()])
    assert sorted(numbers) == list(range(len(labels)))
    for part in (drawn, rest):
        assert part.labels is not None and part.labels.tolist() == [labels[i] for i in part.images.ravel()]
    assert drawn.labels is not None
    classes = set(labels)
    if count >= len(classes):
        assert set(drawn.labels.tolist()) == classes
    for name in classes:
        exact = labels.count(name) * count / len(labels)
        # One of each class is given first, which moves the others' shares by at most as many.
        assert abs((drawn.labels == name).sum() - exact) <= len(classes)
    again = draw(data, count, seed)[0]
    assert again.images.tolist() == drawn.images.tolist()


def test_a_draw_of_equal_classes_is_even_and_in_no_order() -> None:
    data = data_of(np.repeat(np.arange(5), 40))
    drawn, rest = draw(data, 50, 0)
    assert drawn.labels is not None and rest.labels is not None
    assert np.bincount(drawn.labels).tolist() == [10] * 5 and np.bincount(rest.labels).tolist() == [30] * 5
    for part in (drawn, rest):
        assert bias_of_first(part, 20) is None
    few = {tuple(np.unique(draw(data, 2, seed)[0].labels)) for seed in range(20)}
    assert len(few) > 5  # chance, not the order of classes, decides which come first


def test_a_sample_holds_every_class() -> None:
    data = data_of([0] * 50 + [1] * 3)
    small = sample(data, 5, 0)
    assert small.labels is not None and sorted(small.labels.tolist()) == [0, 0, 0, 0, 1]
    assert sample(data, 99, 0) is data
    with pytest.raises(InputError, match=r"limit=1 is fewer images than d\.npz has classes, 2; use"):
        sample(data, 1, 0)
    with pytest.raises(InputError, match="has no labels"):
        sample(LabelledImages(np.zeros((2, 1, 1, 1)), None), 1, 0)


# First images that are no random sample -----------------------------------------------------------------


def test_a_biased_beginning_is_reported() -> None:
    ordered = data_of(np.repeat(np.arange(4), 25), ("a", "b", "c", "d"))
    assert bias_of_first(ordered, 10) == (
        "10 of the first 10 images are of class a, but 25 of all 100: they do not represent the others; "
        "shuffle the data, or use more of them"
    )
    assert (bias_of_first(ordered, 40) or "").startswith(
        "25 of the first 40 images are of class a, but 25 of"
    )
    assert "2 of the first 2 images are of class a" in (bias_of_first(ordered, 2) or "")
    for count in (1, 100, 1000):
        assert bias_of_first(ordered, count) is None
    assert bias_of_first(data_of([3] * 9), 5) is None  # there is nothing else
    unlabelled = LabelledImages(np.zeros((9, 1, 1, 1)), None)
    assert bias_of_first(unlabelled, 5) is None


def test_chance_is_not_reported() -> None:
    reported = 0
    for seed in range(300):
        data = data_of(np.random.default_rng(seed).permutation(np.repeat(np.arange(10), 20)))
        reported += bias_of_first(data, 16) is not None
    assert reported == 0


# Commands -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("labels")
    make_data(home / "data.npz", 12)
    fine("compile", make_checkpoint(home / "model"), "--bits", "8", "-o", home / "b")
    return home


def rewritten(home: Path, path: Path, order: list[int]) -> Path:
    """Write the same data with its classes in another order, or only some of them."""
    arrays = dict(np.load(home / "data.npz"))
    kept = np.isin(arrays["labels"], order)
    places = np.array([order.index(label) for label in arrays["labels"][kept]])
    np.savez(path, images=arrays["images"][kept], labels=places, classes=np.array(CLASSES)[order])
    return path


@pytest.mark.parametrize("order", [[2, 0, 1], [2, 1]])
def test_run_and_verify_match_names(good: Path, tmp_path: Path, order: list[int]) -> None:
    path = rewritten(good, tmp_path / "other.npz", order)
    arrays, data = np.load(good / "data.npz"), load_data(str(path))
    kept = np.isin(arrays["labels"], order)
    bundle = load_bundle(good / "b")
    right = arrays["labels"][kept] == api.run(bundle, data).predictions
    document = fine("run", good / "b", "--data", path, "-o", tmp_path / "run", "--json").json
    assert document["accuracy"] == right.mean() and document["notes"] == []
    assert np.array_equal(np.load(tmp_path / "run" / "outputs.npz")["labels"], arrays["labels"][kept])
    assert api.accuracy(api.run(bundle, data), data, bundle.graph.classes) == right.mean()
    assert verify(good / "b", data).part("float").accuracy == right.mean()


def test_what_does_not_fit_is_refused_wherever_data_meet_a_network(good: Path) -> None:
    bundle = load_bundle(good / "b")
    data = load_data(str(good / "data.npz"))
    assert data.labels is not None
    beyond = LabelledImages(data.images, data.labels + 1, source="beyond.npz")
    for function in (
        lambda: api.run(bundle, beyond, limit=1),
        lambda: verify(good / "b", beyond, limit=1),
        lambda: api.preprocess(bundle.graph, beyond),
    ):
        with pytest.raises(InputError, match=r"beyond\.npz: the label of image \d+ is 3, outside 0\.\.2"):
            function()


def test_sorted_data_are_said_to_be(good: Path, tmp_path: Path) -> None:
    arrays = dict(np.load(make_data(tmp_path / "data.npz", 300)))
    arrays["images"], arrays["labels"] = arrays["images"], np.sort(arrays["labels"])
    np.savez(tmp_path / "sorted.npz", **arrays)
    data = ("--data", tmp_path / "sorted.npz", "--limit", "3")
    note = "3 of the first 3 images are of class nought, but 100 of all 300"
    for command in ("run", "verify"):
        assert f"note: {note}" in fine(command, good / "b", *data).out
        (found,) = fine(command, good / "b", *data, "--json").json["notes"]
        assert found.startswith(note)
    place = ("--placement", "halting-aware", "--limit", "9")
    options = ("--bits", "8", "--calibrate", tmp_path / "sorted.npz", *place)
    notes = fine("compile", good / "model", *options, "-o", tmp_path / "b", "--json").json["notes"]
    assert notes[0].startswith("calibrate: 100 of the first 128 images are of class nought, but 100 of all")
    assert notes[1].startswith("profiling run: 9 of the first 9 images are of class nought")


def test_the_lava_package_matches_names(
    good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from stas_neuro.exporters.lava.standalone import main

    fine("convert", good / "b", "--to", "lava", "-o", tmp_path / "package")

    def printed(path: Path, code: int) -> str:
        capsys.readouterr()
        assert main(tmp_path / "package", [str(path)]) == code
        out, err = capsys.readouterr()
        return out.splitlines()[-2] if code == 0 else err

    expected = printed(good / "data.npz", 0)
    assert expected.startswith("accuracy: ")
    other = rewritten(good, tmp_path / "other.npz", [2, 0, 1])
    assert printed(other, 0) == expected
    arrays = dict(np.load(good / "data.npz"))
    unnamed = {name: arrays[name] for name in ("images", "labels")}
    np.savez(other, **unnamed)
    assert printed(other, 0) == expected
    for changes, message in (
        (
            {"classes": ["two", "one", "emu"]},
            "the model has no class emu; the data have two, one, emu, the model nought, one, two",
        ),
        ({"classes": ["two", "one", "two"]}, "classes occur more than once"),
        ({"labels": arrays["labels"][:3]}, "labels are int64 of shape (3,) for 12 images"),
        ({"labels": arrays["labels"] + 1}, "is 3, outside 0..2, and so are 3 more; number the model"),
    ):
        np.savez(other, **unnamed | changes)
        error = printed(other, 2)
        assert error.count("\n") == 1 and message in error


def test_shipped_figures_need_no_note(tmp_path: Path) -> None:
    """The shipped images are in random order, and named as the shipped models name their classes."""
    from stas_neuro.assets import HALTING_MODEL, IMAGES, asset

    data = load_data(str(asset(IMAGES)))
    for count in (4, 8, 16, 32, 64, 128, 256):
        assert bias_of_first(data, count) is None, count
    classes = compiler.load_model(asset(f"models/{HALTING_MODEL}")).config.classes
    assert match_classes(data, classes).classes == data.classes == classes
