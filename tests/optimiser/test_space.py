"""What a search combines."""

from __future__ import annotations

import pytest

from stas_neuro.chips import load_profile
from stas_neuro.choices import Mode
from stas_neuro.compiler import CompileOptions
from stas_neuro.errors import InputError
from stas_neuro.mapping import CoreLocation, Mapping
from stas_neuro.optimiser import Space
from stas_neuro.optimiser.space import deployments, spreads, strategies, variants


def test_trained_halting_is_varied_and_taken_off() -> None:
    space = Space(policies=("raster", "rectangular", "image"), epsilons=(0.1, 0.2), bits=(8, 4))
    found = list(
        variants(
            space, model="", steps=4, trained="raster", fixed=False, exits=({"margin": 1.0}, {"margin": 2.0})
        )
    )
    families = [each.family for each in found]
    assert {each: families.count(each) for each in families} == {
        "full": 2,
        "static": 6,
        "image": 8,  # two margins, ends at 2 and 4 steps, two widths
        "image pipelined": 8,
        "raster": 4,
        "raster late": 4,
        "rectangular": 4,
    }
    assert len({each.name for each in found}) == len(found)
    for each in found:
        assert CompileOptions(**each.options, calibrate="digits").bits in (8, 4)
    assert all(each.options["accumulate"] == "off" for each in found if each.family in ("full", "static"))


@pytest.mark.parametrize(
    ("steps", "tried"),
    [
        (1, []),
        (2, [1]),
        (5, [1, 2, 3, 4]),
        (17, list(range(1, 17))),
        (64, [1, 5, 9, 13, 17, 21, 25, 29, 34, 38, 42, 46, 50, 54, 58, 63]),
    ],
)
def test_few_of_many_smaller_numbers_of_steps_are_tried(steps: int, tried: list[int]) -> None:
    found = variants(Space(policies=()), model="", steps=steps, trained=None, fixed=False, exits=())
    assert [each.options["steps"] for each in found if each.family == "static"] == tried


@pytest.mark.parametrize("fewer", [-1, 2.5, True])
def test_numbers_of_steps_that_are_none_are_refused(fewer: object) -> None:
    with pytest.raises(InputError, match="fewer"):
        Space(fewer=fewer)  # type: ignore[arg-type]


def test_exits_that_were_trained_are_tried_as_they_are() -> None:
    added = ({"margin": 3.0}, {"margin": 3.0, "summed": True})
    found = list(variants(Space(), model="", steps=6, trained="image", fixed=False, exits=added))
    exits = [each for each in found if each.family == "image"]
    assert [each.name for each in exits] == [
        "image steps=3 margin=3 bits=8",
        "image margin=3 bits=8",
        "image steps=3 margin=3 bits=8 summed",
        "image margin=3 bits=8 summed",
        "image steps=3 bits=8",
        "image bits=8",
    ]
    assert [CompileOptions(**each.options, calibrate="digits").accumulate for each in exits[-2:]] == [
        "image"
    ] * 2


def test_halting_is_added_to_a_network_without() -> None:
    space = Space(policies=("block",), alphas=(1.0,), betas=(-2.0, 0.0))
    found = list(variants(space, model="x", steps=1, trained=None, fixed=False, exits=()))
    assert [each.family for each in found] == ["full", "block", "block"]
    assert [each.options.get("beta") for each in found] == [None, -2.0, 0.0]
    assert found[0].name == "x full bits=8"


def test_the_halting_of_a_graph_stays() -> None:
    (only,) = variants(Space(), model="", steps=4, trained="time", fixed=True, exits=())
    assert only.family == "time" and only.options == {"bits": 8}


def test_placements_fill_shares_of_the_chips_that_are_needed() -> None:
    space = Space(strategies=("token-major", "halting-aware"), fill=(0.25, 0.5, 1.0))
    loihi2, gated = load_profile("loihi2"), load_profile("loihi2-gated-whatif")
    assert strategies(space, loihi2, halts=True) == ["token-major"]
    assert strategies(space, gated, halts=True) == ["token-major", "halting-aware"]
    assert strategies(space, gated, halts=False) == ["token-major"]

    def cores(fewest: int) -> list[int | None]:
        sites = tuple(CoreLocation(chip=number // 120, x=number % 120) for number in range(fewest))
        mapping = Mapping(profile="loihi2", strategy="token-major", cores=sites, pieces=())
        found = list(spreads(space, loihi2, 9, mapping, "token-major"))
        assert {each.groups for each in found} <= {9}
        return [each.cores for each in found]

    assert cores(20) == [30, 60, 120]
    assert cores(60) == [120]
    assert cores(130) == [240]  # of two chips


@pytest.mark.parametrize(("profile", "gatings"), [("loihi2", 1), ("loihi2-gated-whatif", 3)])
def test_deployments_are_those_that_a_chip_can(profile: str, gatings: int) -> None:
    chip = load_profile(profile)
    single = deployments(Space(), chip, "single", halts=True)
    assert len({each.gating for each in single}) == gatings
    assert len(single) == 4 * gatings  # 1, 2 and 4 copies, and as many as fill a chip
    assert {each.gating for each in deployments(Space(), chip, "single", halts=False)} == {"silent"}
    stream = deployments(Space(contexts=(1, 4)), chip, "stream", halts=True)
    assert {(each.contexts, each.schedule) for each in stream} == {(1, None), (4, "raster")}
    assumed = deployments(Space(assumed=True), chip, "single", halts=True)
    assert {(each.early_end, each.schedule) for each in assumed} == {(False, None), (True, "raster")}


@pytest.mark.parametrize("mode", ["single", "stream"])
def test_a_pipeline_ends_with_the_exit_only_if_that_may_be_assumed(mode: Mode) -> None:
    chip = load_profile("loihi2")
    found = deployments(Space(contexts=(1, 4)), chip, mode, halts=True, overlaps=True)
    assert not any(each.early_end for each in found)
    assert {each.gating for each in found} == {None}
    found = deployments(Space(contexts=(1, 4), assumed=True), chip, mode, halts=True, overlaps=True)
    assert {each.schedule for each in found if each.early_end} == {None}


def test_an_axis_needs_known_values() -> None:
    with pytest.raises(InputError, match="there is no halting policy 'rasta'; did you mean raster"):
        Space(policies=("rasta",))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="there is no placement 'token'; did you mean"):
        Space(strategies=("token",))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="replicas: nothing to try"):
        Space(replicas=())
