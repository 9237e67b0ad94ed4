"""Other programs on the same networks, and how near a run comes to what the machine can do.

    OMP_NUM_THREADS=1 python examples/bench_rivals.py [--rounds 3] [--images 128] [--small] [--json]

In turn in one process, round after round: torch (all tokens masked, active tokens only, and compiled, the
best of which is the baseline), onnxruntime on the file of our own export, and the integer program of the
shipped model; SpikingJelly's multi-step Spikformer and the integer program that is compiled from it; SANA-FE
and the same placed network, run, counted by core and priced, or only priced. Results are compared before
anything is timed: logits of the compiled model with the model's, logits of onnxruntime with the reference,
all spikes of SpikingJelly's network with its graph (as the importer does), counts and energies of SANA-FE
with ours. What is not installed is left out, with the reason.

The second table has what is attained of what is attainable: products of weights with inputs of live tokens in
a second, as a share of those in numpy's product of two large float32 matrices, in the same rounds.
``bench.py`` has the same rows. All are wall-clock times of this machine, not of any chip.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from bench_table import Figures, Rounds, in_turn, of_rounds, table, wide_console
from numpy.typing import NDArray
from rich.console import Console

import stas_neuro
from stas_neuro.activity import Visits
from stas_neuro.analysis import extent, works_in
from stas_neuro.assets import HALTING_MODEL, IMAGES, asset
from stas_neuro.data import LabelledImages
from stas_neuro.errors import StasError
from stas_neuro.ir import FixedConv2d, FixedLinear, Graph, Phase
from stas_neuro.scopes import block_of

ROOT = Path(__file__).resolve().parents[1]
SANAFE = ROOT / ".oracle" / "bin" / "python"
CHUNK = 32
RATE, PRODUCTS = "images_per_s_beside_others", "products_per_s"
MASKING, SKIPPING, COMPILED, BEST = "torch, masking", "torch, skipping", "torch, compiled", "torch, best"
FAST, ONNX, MATRIX = "fast, integers", "onnxruntime, own export", "product of large matrices"
JELLY, JELLY_FAST = "SpikingJelly, multi-step Spikformer", "fast, integers, the same Spikformer"
SIMULATED, RAN = "SANA-FE, {} network", "run, counted, priced: {} network"
ONLY_RUN, ONLY_PRICED = "only run: {} network", "only priced: {} network"
SMALLER, LARGER, LARGEST = "smaller", "larger", "largest"
_SIDE = 768
"""Of the large matrices."""
_LARGER = 8
"""SpikingJelly's network classifies fewer images by this factor: it is larger."""
_INFERENCES = 10_000
"""Of a network that SANA-FE simulates one at a time, run and priced together: a test set, as large as that of
Fashion-MNIST. What a call takes however many there are, above all the price of the sampled images of a
record, is divided by them. SANA-FE has no such time, since its network stays loaded, and simulates fewer."""
_WIDE_LARGER, _PARTS_LARGER, _SIDE_LARGER, _SIDE_LARGEST = 2, 8, 16, 22
"""Of the larger networks: twice the channels, a layer on 8 cores, not 3, frames of 16 x 16 and 22 x 22, not
8 x 8. A tile of SANA-FE takes at most 1024 trains of input spikes: the largest has 968."""
_ROUNDING = 1e-4
"""Difference of logits that compiled sums in another order may make."""
_REPORT = "run make validate, and report the difference"
Call = Callable[[], int]
Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Settings:
    """Rounds, images of a call, threads; `small`: SpikingJelly's small network, and torch not compiled."""

    rounds: int
    images: int
    threads: int = 1
    small: bool = False


@dataclass(frozen=True)
class Result:
    """Figures, and why some are absent, by what they are of."""

    figures: Figures
    absent: dict[str, str]


class Absent(Exception):
    """Something cannot be measured here; the message has the reason."""


def measure_rivals(settings: Settings) -> Result:
    """Measure all that is installed."""
    figures: Figures = []
    absent: dict[str, str] = {}
    for group, names in (
        (_shipped, (COMPILED, ONNX)),
        (_jelly, (JELLY,)),
        (_sanafe, tuple(SIMULATED.format(which) for which in (SMALLER, LARGER, LARGEST))),
    ):
        try:
            found = group(settings)
        except Absent as reason:
            absent |= dict.fromkeys(names, str(reason))
            continue
        figures += found.figures
        absent |= found.absent
    return Result(figures, absent)


# The shipped model: torch, onnxruntime, and the integer program ---------------------------------------------


def _shipped(settings: Settings) -> Result:
    path = str(asset(f"models/{HALTING_MODEL}"))
    program = stas_neuro.quantise(stas_neuro.fold(path))
    images = stas_neuro.load_data(str(asset(IMAGES))).images[: settings.images]
    wanted = stas_neuro.run(program, images, backend="reference")
    calls: dict[str, Call] = {what: _torch(path, what, images, settings) for what in (MASKING, SKIPPING)}
    absent = {}
    for what, make in (
        (COMPILED, lambda: _torch(path, COMPILED, images, settings)),
        (ONNX, lambda: _onnx(program, images, wanted.logits, settings)),
    ):
        try:
            calls[what] = make()
        except Absent as reason:
            absent[what] = str(reason)
    calls |= {FAST: lambda: stas_neuro.run(program, images, backend="fast").images, MATRIX: _matrices()}
    rounds = in_turn(calls, settings.rounds)
    kinds = [what for what in (MASKING, SKIPPING, COMPILED) if what in calls]
    for each in rounds:
        each[BEST] = max(each[what] for what in kinds)
    rivals = dict.fromkeys([*kinds, BEST, *(what for what in (ONNX, FAST) if what in calls)], BEST)
    attained = _attained(rounds, FAST, products(program, wanted.visits))
    return Result([*of_rounds(rounds, rivals, RATE), *attained], absent)


def _torch(path: str, what: str, images: Images, settings: Settings) -> Call:
    if what == COMPILED and settings.small:
        raise Absent("compiling takes minutes on a busy machine, and this run is to be quick")
    import torch

    from stas_neuro.data import normalise

    torch.set_num_threads(settings.threads)
    model = stas_neuro.load_model(path).float().eval()
    pixels = torch.from_numpy(normalise(images, model.config.mean, model.config.std)).float()
    run: Any = torch.compile(model, dynamic=False) if what == COMPILED else model

    def call() -> int:
        with torch.inference_mode():
            for part in pixels.split(CHUNK):
                run(part, skip=what == SKIPPING)
        return len(pixels)

    if what == COMPILED:
        try:
            call()
        except Exception as error:  # whatever torch's compiler raises: the other rows go on
            raise Absent(f"torch.compile failed: {_line(error)}") from error
        part = pixels[:CHUNK]
        with torch.inference_mode():
            found, wanted = (made(part, skip=False).logits for made in (run, model))
        if not torch.allclose(found, wanted, atol=_ROUNDING):
            raise StasError("the logits of the compiled model differ from the model's", _REPORT)
    return call


def _onnx(program: Graph, images: Images, wanted: NDArray[Any], settings: Settings) -> Call:
    if not all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime")):
        raise Absent("onnxruntime is not installed (the extra fast-8bit)")
    import onnxruntime

    from stas_neuro.exporters.onnx.model import make_model

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = settings.threads, 3
    model = make_model(program, spikes=False).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])

    def logits() -> NDArray[Any]:
        parts = (images[first : first + CHUNK] for first in range(0, len(images), CHUNK))
        return np.concatenate([session.run(["logits"], {"images": part})[0] for part in parts])

    if not np.array_equal(logits(), wanted):
        raise StasError("onnxruntime's logits differ from the reference's", _REPORT)
    return lambda: len(logits())


def _matrices() -> Call:
    """Return a call that makes as many products as it says, in one of numpy's matrix products."""
    a, b = np.random.default_rng(0).random((2, _SIDE, _SIDE), np.float32)

    def call() -> int:
        a @ b
        return _SIDE**3

    return call


def _attained(rounds: Rounds, what: str, of_image: float) -> Figures:
    """Compare the products that something makes, of which an image takes so many, with those of matrices."""
    made = [{what: each[what] * of_image, MATRIX: each[MATRIX]} for each in rounds]
    return of_rounds(made, {what: MATRIX}, PRODUCTS)


def products(program: Graph, visits: Visits) -> float:
    """Count the products of weights with inputs of live tokens, of an image: convolutions and linear layers.

    `visits` is bool (images, T, L, N).
    """
    total = 0.0
    for node in program.nodes:
        if not isinstance(node, FixedConv2d | FixedLinear):
            continue
        positions, features = extent(program, node)
        block = block_of(node.scope)
        rows = positions * (program.time_steps if works_in(program, node) in (Phase.STEM, Phase.STEP) else 1)
        if block is not None:
            rows = visits[:, :, block].sum() / len(visits)
        total += rows * features * program.tensor(node, "weight")[0].size
    return float(total)


# SpikingJelly -----------------------------------------------------------------------------------------------


def _jelly(settings: Settings) -> Result:
    if importlib.util.find_spec("spikingjelly") is None:
        raise Absent("SpikingJelly is not installed (make zoo)")
    import torch
    import zoo
    from spikingjelly.activation_based import functional

    torch.set_num_threads(settings.threads)
    model = zoo.MODELS["spikformer_cifar10" if settings.small else "spikformer_4_384"]
    network = model.make()
    images = model.images(max(2, settings.images // _LARGER))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the module returns logits of each step")
        # The importer compares all spikes and logits with the module's, in float64.
        graph = stas_neuro.open_model(network, example=images[:2], axes=model.axes)
    bundle = stas_neuro.compile(graph, bits=8, calibrate=LabelledImages(images.numpy(), None))
    program = bundle.of("fixed")
    bytes_ = np.rint(images.numpy() * 255).astype(np.uint8)
    network = network.float()

    def theirs() -> int:
        with torch.inference_mode():
            for part in images.split(CHUNK):
                network(part)
                functional.reset_net(network)
        return len(images)

    calls = {JELLY: theirs, JELLY_FAST: lambda: stas_neuro.run(program, bytes_, backend="fast").images}
    calls[MATRIX] = _matrices()
    rounds = in_turn(calls, settings.rounds)
    visits = np.ones((1, program.time_steps, max(program.blocks, 1), program.tokens), np.bool_)
    attained = _attained(rounds, JELLY_FAST, products(program, visits))
    return Result([*of_rounds(rounds, dict.fromkeys((JELLY, JELLY_FAST), JELLY), RATE), *attained], {})


# SANA-FE ----------------------------------------------------------------------------------------------------

_SIMULATE = """
import sys, time, sanafe
folder, steps = sys.argv[1], int(sys.argv[2])
chip_description = sanafe.load_arch(folder + "/chip.yaml")
chip = sanafe.SpikingChip(chip_description)
chip.load(sanafe.load_net(folder + "/network.yaml", chip_description))
for line in sys.stdin:
    for _ in range(int(line)):
        chip.reset()
        chip.sim(steps, timing_model="simple")
    print("done", flush=True)
"""


def _sanafe(settings: Settings) -> Result:
    """Compare what SANA-FE takes for the counts and energy of an inference with what we take.

    SANA-FE simulates the network step by step. We run it as an integer program, count by core, and price. The
    run alone is what would be left if counts and prices took no time; the price alone is what the same counts
    take on another chip or in another deployment, which needs no run.
    """
    if not SANAFE.exists():
        raise Absent("SANA-FE is not installed (make oracle)")
    sys.path.append(str(ROOT / "tests"))
    from sanafe_oracle.cases import sanafe_cases
    from sanafe_oracle.networks import by_channels, input_spikes, spiking_network

    small = next(case for case in sanafe_cases() if case.name == "memoryless, by channels, loihi1")

    def larger(side: int) -> Any:
        graph = spiking_network(0, leaky=False, side=side, wide=_WIDE_LARGER)
        mapping, frames = by_channels(graph, _PARTS_LARGER), input_spikes(0, side)
        return replace(small, graph=graph, mapping=mapping, frames=frames)

    figures: Figures = []
    for which, case, fewer in (
        (SMALLER, small, 1),
        (LARGER, larger(_SIDE_LARGER), 8),
        (LARGEST, larger(_SIDE_LARGEST), 16),
    ):
        images = -(-settings.images // fewer)
        figures += _beside_sanafe(case, which, replace(settings, images=images))
    return Result(figures, {})


def _beside_sanafe(case: Any, which: str, settings: Settings) -> Figures:
    from sanafe_oracle.cross_check import cross_check, of_model_steps
    from sanafe_oracle.package import hardware_steps

    from stas_neuro.fast import run_fast

    with tempfile.TemporaryDirectory() as folder:
        if not cross_check(case, SANAFE, Path(folder)).holds:
            raise StasError("SANA-FE's counts or energies differ from ours", _REPORT)
        package = next(Path(folder).iterdir())
        frames = np.repeat(case.frames[None], _INFERENCES, axis=0)

        def counted() -> Any:
            return of_model_steps(stas_neuro.run(case.graph, frames, mapping=case.mapping).activity)

        def price(record: Any) -> int:
            stas_neuro.estimate(record, case.profile, variants=False)
            return int(record.images)

        def ran() -> int:
            price(counted())
            return len(frames)

        def only_run() -> int:
            return run_fast(case.graph, frames, count=False).images

        record = counted()
        simulated = SIMULATED.format(which)
        ours: dict[str, Call] = {
            RAN.format(which): ran,
            ONLY_RUN.format(which): only_run,
            ONLY_PRICED.format(which): lambda: price(record),
        }
        with _simulator(package, hardware_steps(case.graph), settings.images) as theirs:
            rounds = in_turn({simulated: theirs, **ours}, settings.rounds)
    return of_rounds(rounds, dict.fromkeys((simulated, *ours), simulated), RATE)


@contextmanager
def _simulator(package: Path, steps: int, images: int) -> Iterator[Call]:
    """Start SANA-FE with a network loaded; the call simulates inferences."""
    command = [str(SANAFE), "-c", _SIMULATE, str(package), str(steps)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def call() -> int:
            print(images, file=stdin, flush=True)
            while (line := stdout.readline()).strip() != "done":
                if not line:
                    raise StasError("SANA-FE ended early", "run make validate, which prints its errors")
            return images

        try:
            yield call
        finally:
            stdin.close()


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


def show(console: Console, figures: Figures, absent: dict[str, str]) -> None:
    """Print the table, and what is not in it."""
    for title, columns in (
        ("beside other programs, in turn in one process", {RATE: "images/s"}),
        ("attained of attainable: the ratio is the share", {PRODUCTS: "products/s"}),
    ):
        console.print(table(title, figures, columns))
    for what, reason in absent.items():
        console.print(f"without {what}: {reason}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument("--images", type=int, default=128, help="images of a call (default 128)")
    parser.add_argument(
        "--small", action="store_true", help="SpikingJelly's small network, torch not compiled"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    given = parser.parse_args()
    if min(given.rounds, given.images) < 1:
        parser.error("--rounds and --images must be at least 1")
    result = measure_rivals(Settings(given.rounds, given.images, small=given.small))
    if given.json:
        print(json.dumps({"figures": result.figures, "absent": result.absent}, indent=2))
    else:
        show(wide_console(), result.figures, result.absent)


if __name__ == "__main__":
    main()
