"""Every public function takes a path, a name or an object, and refuses anything else with its own error."""

from __future__ import annotations

import inspect
import math
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.check_cases import folded
from support.energy_runs import run as energy_run
from support.lava_support import tiny

import stas_neuro
from stas_neuro.activity import write_activity
from stas_neuro.assets import shipped_models
from stas_neuro.bundle import Bundle, Provenance, load_bundle
from stas_neuro.chips import load_profile
from stas_neuro.data import LabelledImages
from stas_neuro.energy import Deployment
from stas_neuro.errors import InputError, StasError
from stas_neuro.ir import Graph

OPTIONS = ("CompileOptions", "Deployment", "WeightsOptions")
FUNCTIONS = [name for name in stas_neuro.__all__ if name not in OPTIONS]
WRONG: tuple[Any, ...] = (
    3,
    -1,
    2.5,
    math.nan,
    True,
    None,
    b"bytes",
    "no-such-thing",
    "",
    object(),
    [object()],
    {"a": object()},
    np.zeros(3, object),
    Path("no/such/file"),
    int,
)
"""Values of wrong kinds, tried for every parameter that does not accept them."""


def _whole(value: Any) -> bool:
    return type(value) is int and value == 3


def _real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _path(value: Any) -> bool:
    return isinstance(value, str | Path) and bool(str(value))


ACCEPTED: Mapping[str, Callable[[Any], bool]] = {
    "accumulate": lambda value: False,
    "bits": _whole,
    "chosen": callable,
    "compare.profiles": lambda value: value is None,
    "cores": _whole,
    "deadline_s": _real,
    "directory": _path,
    "dtype": lambda value: False,
    "epsilon": lambda value: isinstance(value, int | float) and math.isfinite(value) and value is not True,
    "extends": _path,
    "folder": _path,
    "force": lambda value: value is True,
    "groups": _whole,
    "jobs": _whole,
    "label": _text,
    "late": _whole,
    "limit": _whole,
    "mapping": lambda value: value is None,
    "multiprocess": lambda value: value is True,
    "note": callable,
    "passes": lambda value: isinstance(value, list),
    "per_image": lambda value: value is True,
    "points": _whole,
    "progress": callable,
    "record_spikes": lambda value: value is True,
    "record_states": lambda value: value is True,
    "report": callable,
    "resume": lambda value: value is True,
    "save_bundle.path": _path,
    "source": _text,
    "time_steps": _whole,
    "values": lambda value: isinstance(value, dict) and not value,
    "variants": lambda value: value is True,
    "write_activity.path": _path,
}
"""Values that a parameter takes, by its name or "function.parameter"; of all others none is right."""


def parameters() -> Iterator[tuple[str, str]]:
    for name in FUNCTIONS:
        for parameter, given in inspect.signature(getattr(stas_neuro, name)).parameters.items():
            if given.kind is not given.VAR_KEYWORD:
                yield name, parameter


@pytest.fixture(scope="module")
def good() -> Mapping[str, Any]:
    """Right arguments, by parameter."""
    graph = tiny()
    images = LabelledImages(np.zeros((2, *graph.image_shape)), np.zeros(2, np.int64), graph.classes)
    bundle = Bundle(graph, Provenance(source=""), {})
    words = {"images": images, "data": images, "sample": images, "bundle": bundle, "graph": graph}
    words |= {"network": graph, "model": graph, "source": graph, "activity": energy_run()}
    words |= {"baselines": {"other": energy_run(halting=False)}, "profile": load_profile("loihi2")}
    words |= {"profiles": [load_profile("loihi2")], "path": "missing", "provenance": Provenance(source="")}
    words |= {
        "runs": {"mine": energy_run()},
        "checkpoint": "missing",
        "directory": "missing",
        "measurements": "missing.csv",
    }
    return words | {"mode": "raster", "schedule": "raster"}


@pytest.mark.parametrize(("name", "parameter"), list(parameters()))
def test_an_argument_of_a_wrong_kind_is_refused(name: str, parameter: str, good: Mapping[str, Any]) -> None:
    function = getattr(stas_neuro, name)
    signature = inspect.signature(function).parameters
    takes = ACCEPTED.get(f"{name}.{parameter}") or ACCEPTED.get(parameter) or (lambda value: False)
    needed = {word for word, given in signature.items() if given.default is given.empty}
    rest = {word: good[word] for word in needed - {parameter} if word in good and word in signature}
    for value in WRONG:
        if (value is None and signature[parameter].default is None) or takes(value):
            continue
        with pytest.raises(StasError) as caught:
            function(**rest, **{parameter: value})
        assert "; " in str(caught.value) and "\n" not in str(caught.value), value


def test_arguments_that_a_function_does_not_have_or_lacks() -> None:
    with pytest.raises(InputError, match=r"no argument of run 'limt'; did you mean limit\?"):
        stas_neuro.run(tiny(), np.zeros((1, 1, 4, 4)), limt=3)
    with pytest.raises(InputError, match=r"run: missing a required argument: 'images'; call"):
        stas_neuro.run(tiny())
    with pytest.raises(InputError, match="too many positional"):
        stas_neuro.list_profiles(3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: stas_neuro.compile("order", bitz=8), "no option 'bitz'; did you mean bits?"),
        (lambda: stas_neuro.compile("order", bits="8"), "bits is '8'; give a whole number"),
        (lambda: stas_neuro.compile("order", halting="rastr"), "no halting 'rastr'; did you mean raster?"),
        (lambda: stas_neuro.compile("ordr"), "no model or file 'ordr'; did you mean order?"),
        (lambda: stas_neuro.train("tiny", "digits", "x", stage3_epochs=1), "did you mean stage2_epochs?"),
        (lambda: stas_neuro.train("tini", "digits", "x"), "no model or file 'tini'; did you mean tiny?"),
        (lambda: stas_neuro.train("tiny", "digits", "x", stage1_epochs="1"), "stage1_epochs is '1'"),
        (lambda: stas_neuro.open_weights("x.pth", arch="spikformr"), "did you mean spikformer?"),
        (lambda: stas_neuro.open_weights("x.pth", arch="spikformer", heads="12"), "heads is '12'"),
        (lambda: stas_neuro.open_model("order", exampel=3), "did you mean example?"),
        (lambda: stas_neuro.load_model("order", gamma=3), "no option 'gamma'; use one of alpha"),
        (lambda: stas_neuro.load_model(tiny()), "give a StasModel, or the directory of a checkpoint"),
        (lambda: stas_neuro.load_data("digit"), "did you mean digits?"),
        (lambda: stas_neuro.load_profile("loihi"), "did you mean loihi"),
        (lambda: stas_neuro.run(tiny(), np.zeros((1, 1, 4, 4)), dtype="flaot64"), "did you mean float64?"),
        (lambda: stas_neuro.run(tiny(), np.zeros((1, 1, 4, 4)), dtype="int8"), "no dtype 'int8'"),
        (lambda: stas_neuro.run(tiny(), np.zeros((1, 1, 4, 4)), backend="lawa"), "did you mean lava?"),
        (lambda: stas_neuro.run(tiny(), np.zeros((1, 2, 2, 3, 4), complex)), "complex"),
        (lambda: stas_neuro.Deployment(mode="streem"), "did you mean stream?"),
        (lambda: stas_neuro.Deployment(contexts="2"), "contexts is '2'; give a whole number"),
        (lambda: stas_neuro.Deployment(replicas="all"), "replicas is 'all'; give a whole number, or 'fill'"),
        (
            lambda: stas_neuro.CompileOptions(accumulate="rastr"),
            "no accumulate 'rastr'; did you mean raster?",
        ),
        (lambda: stas_neuro.CompileOptions(profile=3), "profile is 3; give a Profile, the name of one"),
        (lambda: stas_neuro.read_activity("."), "."),
        (lambda: stas_neuro.load_bundle("."), "has no manifest.json"),
        (lambda: stas_neuro.estimate(energy_run(), "."), "there is no profile '.'"),
    ],
)
def test_what_was_probably_meant(call: Callable[[], object], message: str) -> None:
    with pytest.raises(StasError) as caught:
        call()
    assert message in str(caught.value)


def test_networks_in_every_form_give_the_same_run(tmp_path: Path) -> None:
    graph = folded()
    images = np.random.default_rng(0).random((2, *graph.image_shape))
    bundle = Bundle(graph, Provenance(source=""), {})
    stas_neuro.save_bundle(bundle, tmp_path / "a.stas")
    stas_neuro.save_bundle(graph, str(tmp_path / "b.zip"), Provenance(source=""))
    stored = load_bundle(tmp_path / "a.stas")
    assert stas_neuro.load_bundle(stored) is stored and stored.provenance == bundle.provenance
    expected = stas_neuro.run(graph, images).logits
    for network in (bundle, stored, tmp_path / "a.stas", str(tmp_path / "b.zip")):
        np.testing.assert_array_equal(stas_neuro.run(network, images).logits, expected)
        assert stas_neuro.quantise(network).nodes == stas_neuro.quantise(graph).nodes
        placed = stas_neuro.place(network, "loihi2")
        assert placed == stas_neuro.place(graph, load_profile("loihi2"))
        assert stas_neuro.fold(network).nodes == graph.nodes
        assert stas_neuro.schedule_decisions(network, "raster").nodes == graph.nodes
    with pytest.raises(InputError, match="leave them out"):
        stas_neuro.save_bundle(bundle, tmp_path / "c.stas", bundle.provenance)
    with pytest.raises(InputError, match="the graph has no provenance"):
        stas_neuro.save_bundle(graph, tmp_path / "c.stas")


def test_runs_and_profiles_in_every_form_give_the_same_price(tmp_path: Path) -> None:
    record, other = energy_run(), energy_run(halting=False)
    file = tmp_path / "run" / "activity.json"
    file.parent.mkdir()
    write_activity(record, file)
    expected = stas_neuro.estimate(record, load_profile("loihi2"))
    for run in (file, str(file), file.parent):
        assert stas_neuro.estimate(run, "loihi2") == expected
        assert stas_neuro.read_activity(run).layers == record.layers
    assert stas_neuro.read_activity(record) is record
    compared = stas_neuro.compare(record, {"other": other}, [load_profile("loihi2")])
    assert stas_neuro.compare(file, {"other": other}, "loihi2") == compared
    write_activity(other, tmp_path / "other")
    assert stas_neuro.compare(file, tmp_path / "other", ["loihi2"], Deployment()) == compared
    assert [each.profile for each in stas_neuro.compare(file, {"other": other}, None).rows][:2] == [
        "cmos45",
        "cpu",
    ]


def test_shipped_models_have_names() -> None:
    assert {"order", "order/stage1", "fashion-spikformer/4bit"} <= set(shipped_models())
    graph = stas_neuro.fold("order")
    assert isinstance(graph, Graph)
    data = stas_neuro.load_data("order")
    trace = stas_neuro.run("order", data, limit=2)
    np.testing.assert_array_equal(trace.logits, stas_neuro.run(graph, data, limit=2).logits)
    assert stas_neuro.compile("order").graph.nodes == graph.nodes
    with pytest.raises(InputError, match="is not a checkpoint"):
        stas_neuro.provenance("tests")


def test_public_functions_can_be_sent_to_another_process() -> None:
    for name in FUNCTIONS:
        function = getattr(stas_neuro, name)
        assert pickle.loads(pickle.dumps(function)) is function
        assert function.__doc__ and getattr(stas_neuro, name) is function
