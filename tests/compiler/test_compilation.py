"""Steps of a compilation: what several have in common is done once, and problems can be collected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.check_cases import chip, folded
from support.ir_random import Recipe, build

from stas_neuro.bundle import Bundle, Provenance
from stas_neuro.checker import check
from stas_neuro.chips import load_profile
from stas_neuro.compiler import (
    Compilation,
    CompileOptions,
    Compiler,
    attempt,
    compilation,
    open_network,
)
from stas_neuro.data import LabelledImages
from stas_neuro.errors import InputError
from stas_neuro.ir import Problem
from stas_neuro.passes import FoldBatchNorm, PassError, Quantise, run_passes

TRACED = build(Recipe(seed=3))
FOLDED = run_passes(TRACED, [FoldBatchNorm()])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Note each call of a function that steps use."""

    def watch(name: str, module: Any = compilation) -> list[str]:
        noted: list[str] = []
        real = getattr(module, name)

        def called(*args: Any, **words: Any) -> Any:
            noted.append(name)
            return real(*args, **words)

        monkeypatch.setattr(module, name, called)
        return noted

    return watch


def test_a_check_folds_once_and_quantises_once_for_each_arithmetic(calls: Callable[..., list[str]]) -> None:
    folds, quantises = calls("fold"), calls("run_passes")
    judged = [verdict.profile for verdict in check(TRACED).verdicts if verdict.fits is not None]
    assert len(folds) == 1
    assert len(quantises) == len({load_profile(name).arithmetic for name in judged}) < len(judged)


def test_compilations_share_a_sample_and_a_profiling_run(calls: Callable[..., list[str]]) -> None:
    images = LabelledImages(
        np.random.default_rng(0).integers(0, 256, (4, *FOLDED.input.shape), np.uint8), None, source="images"
    )
    looks, runs = calls("look_at"), calls("run", compilation.api)
    compiler = Compiler(open_network(FOLDED))
    made = [
        Compilation(
            compiler, CompileOptions(bits=8, calibrate=images, placement="halting-aware", groups=groups)
        ).bundle()
        for groups in (1, 2)
    ]
    assert len(looks) == len(runs) == 1
    alone = Compilation(
        Compiler(open_network(FOLDED)),
        CompileOptions(bits=8, calibrate=images, placement="halting-aware", groups=2),
    ).bundle()
    assert made[0].quantised is made[1].quantised
    assert made[1].quantised == alone.quantised
    assert made[1].mapping == alone.mapping != made[0].mapping
    assert made[1].provenance.options == alone.provenance.options
    assert made[1].provenance.passes == alone.provenance.passes
    # Equal images that are another object are another sample.
    again = LabelledImages(images.images.copy(), None, source="images")
    options = CompileOptions(bits=8, calibrate=again)
    assert Compilation(compiler, options).quantise() is not made[0].quantised


def test_an_error_of_a_shared_step_reaches_all_who_ask_and_the_step_runs_once() -> None:
    compiler, asked = Compiler(open_network(FOLDED)), []

    def failing() -> None:
        asked.append(1)
        raise InputError("it is wrong", "correct it")

    for _ in range(2):
        with pytest.raises(InputError, match="it is wrong"):
            compiler.once(("step",), failing)
    assert len(asked) == 1


def test_a_step_gives_its_problems_instead_of_raising_them() -> None:
    assert attempt(lambda: 3) == (3, ())
    large = folded({"blocks.0.q/weight": 1e9})
    made, problems = attempt(Compilation(Compiler(open_network(large)), CompileOptions(bits=8)).quantise)
    assert made is None
    assert [problem.where for problem in problems] == ["blocks.0.q"]

    def of_a_pass() -> None:
        raise PassError("pass Some: it is wrong", "correct it") from InputError("it is wrong", "correct it")

    assert attempt(of_a_pass) == (None, (Problem("", "it is wrong", "correct it"),))


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (Quantise()(FOLDED), {"bits": 8}, "bits 8: the graph is quantised already"),
        (
            Bundle(FOLDED, Provenance(source=""), {}, Quantise()(FOLDED)),
            {"backend": "lava-stock"},
            "the network has an integer program already",
        ),
        (
            FOLDED,
            {"bits": 9, "profile": chip(weight_bits=4)},
            "weights have 9 bits, the chip supports up to 4",
        ),
        (FOLDED, {"accumulate": "off"}, "the halting of a graph is fixed, and accumulate is given"),
    ],
    ids=["bits", "backend", "chip", "halting"],
)
def test_what_does_not_fit_the_network_or_the_chip_is_refused(
    network: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Compilation(Compiler(open_network(network)), CompileOptions(**options)).bundle()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bits": 9, "profile": chip(weight_bits=4)}, "the chip supports up to 4"),
        ({"bits": 8, "calibrate": "none.npz"}, "none.npz"),
        ({"placement": "halting-aware", "profile_run": "none.npz"}, "none.npz"),
        ({"placement": "token-major", "profile": "cmos45"}, "cmos45"),
    ],
    ids=["bits", "sample", "profiling run", "no cores"],
)
def test_what_cannot_be_done_in_the_end_is_refused_before_folding(
    calls: Callable[..., list[str]], options: dict[str, Any], message: str
) -> None:
    folds = calls("fold")
    with pytest.raises(InputError, match=message):
        Compilation(Compiler(open_network(TRACED)), CompileOptions(**options)).bundle()
    assert not folds


def test_an_integer_program_cannot_be_folded() -> None:
    with pytest.raises(InputError, match="quantised already"):
        Compilation(Compiler(open_network(Quantise()(FOLDED))), CompileOptions()).fold()
