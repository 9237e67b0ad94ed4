"""Whether the time of a run follows its tokens: the fast backend with and without halting, in turn.

    OMP_NUM_THREADS=1 python examples/bench_tokens.py [shipped] [wide] [--rounds 5] [--json]

Each model runs in one process as two integer programs, with its halting and without (`accumulate="off"`),
round after round. What does not depend on tokens is the stem. With its share s of the time without halting,
and the ratio r of the visits, the time with halting should be at most s + (1 - s)(r + 0.15) of that without:
0.15 is left for masks, scores, gathering of rows and what is done once a batch. `shipped` is the shipped
model on its test images, `wide` Spikformer-4-384 of CIFAR size with random weights on random images.

In the same rounds runs torch, with all tokens computed and halted ones masked, float32: how many times as
fast the program with halting is, and how many times it would be if it took only the time of its products of
matrices, the limit for everything else.

All are CPU times of this machine, not of any chip: other programs on it disturb them least.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import at_size
import numpy as np
from numpy.typing import NDArray

import stas_neuro
from stas_neuro.assets import HALTING_MODEL, IMAGES, asset
from stas_neuro.fast.execution import FastExecution
from stas_neuro.fast.products import Bytes, Floats

ALLOWED = 0.15
"""Of the time of the blocks, beside what the tokens take."""
CHUNK = 32
"""Images of a batch of torch."""
SAMPLE = 4
"""Images by which scales of random weights are chosen."""
WIDE = "spikformer-4-384-cifar10"
Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Measured:
    """Medians over the rounds: times relative to that without halting."""

    model: str
    images: int
    rounds: int
    stem_share: float
    visits_ratio: float
    time_ratio: float
    time_ratio_low: float
    time_ratio_high: float
    torch_ratio: float
    products_share: float

    @property
    def bound(self) -> float:
        """The largest ratio of times that follows tokens."""
        return self.stem_share + (1 - self.stem_share) * (self.visits_ratio + ALLOWED)

    @property
    def holds(self) -> bool:
        """Whether the time follows the tokens."""
        return self.time_ratio <= self.bound

    def told(self) -> str:
        """Say it in a line."""
        spread = f"{self.time_ratio_low:.3f}-{self.time_ratio_high:.3f}"
        return (
            f"{self.model}: s = {self.stem_share:.3f}, r = {self.visits_ratio:.3f}, "
            f"time {self.time_ratio:.3f} ({spread}) of that without halting, "
            f"bound {self.bound:.3f}: {'holds' if self.holds else 'MISSED'}; "
            f"{self.torch_ratio:.2f} x torch, masking; products are {self.products_share:.2f} of the time, "
            f"alone {self.torch_ratio / self.products_share:.2f} x torch"
        )


def shipped(count: int) -> tuple[Any, Images, Images | None]:
    """Return the shipped model, images to run, and none to choose scales by: its weights have scales."""
    return asset(f"models/{HALTING_MODEL}"), stas_neuro.load_data(str(asset(IMAGES))).images[:count], None


def wide(count: int) -> tuple[Any, Images, Images | None]:
    """Return a wide model, images to run, and images to choose scales by."""
    model = at_size.random_model(WIDE, {})
    side, channels = model.config.image_size, model.config.in_channels
    images = np.random.default_rng(0).integers(0, 256, (count, channels, side, side)).astype(np.uint8)
    return model, images, images[:SAMPLE]


MODELS: Mapping[str, tuple[Callable[[int], tuple[Any, Images, Images | None]], int]] = {
    "shipped": (shipped, 512),
    "wide": (wide, 32),
}
"""Models, and how many images a call classifies."""


def measure(name: str, rounds: int) -> Measured:
    """Run a model with and without halting, in turn."""
    make, count = MODELS[name]
    model, images, sample = make(count)
    halting, always = (
        stas_neuro.quantise(stas_neuro.fold(model, accumulate=accumulate), sample)
        for accumulate in (None, "off")
    )
    programs = {"halting": halting, "always": always}
    visits = _run(halting, images)[1].visits
    _run(always, images)  # as the first of the other, it compiles and fills caches
    masking = _torch(model, images)
    masking()
    ratios, shares, torches, products = [], [], [], []
    gc.disable()  # as timeit does: what torch has loaded takes long to look through
    for number in range(rounds):
        # After torch nothing of ours is in caches: first runs what no other is compared with.
        with _timed(Floats, "__call__") as floats, _timed(Bytes, "__call__") as bytes_:
            noted, _ = _run(halting, images)
        took = {}
        for which in ("halting", "always") if number % 2 else ("always", "halting"):
            with _timed(FastExecution, "begin") as spent:
                took[which] = _run(programs[which], images)[0]
            if which == "always":
                stem = sum(spent)
        seconds, others = took["halting"], took["always"]
        ratios.append(seconds / others)
        shares.append(stem / others)
        torches.append(masking() / seconds)
        products.append(sum((*floats, *bytes_)) / noted)
        gc.collect()
    gc.enable()
    return Measured(
        name,
        len(images),
        rounds,
        statistics.median(shares),
        float(visits.mean()),
        statistics.median(ratios),
        min(ratios),
        max(ratios),
        statistics.median(torches),
        statistics.median(products),
    )


def _run(program: stas_neuro.Graph, images: Images) -> tuple[float, stas_neuro.Trace]:
    begun = time.process_time()
    trace = stas_neuro.run(program, images, backend="fast", mapping=None)
    return time.process_time() - begun, trace


@contextmanager
def _timed(of: type, name: str) -> Iterator[list[float]]:
    """Measure the CPU seconds of each call of a method; batches run one after another."""
    spent: list[float] = []
    method = getattr(of, name)

    def timed(*given: Any) -> Any:
        begun = time.thread_time()
        found = method(*given)
        spent.append(time.thread_time() - begun)
        return found

    with mock.patch.object(of, name, timed):
        yield spent


def _torch(model: Any, images: Images) -> Callable[[], float]:
    """Return a call that classifies the images in torch, and returns the CPU seconds that it took."""
    import torch

    from stas_neuro.data import normalise

    torch.set_num_threads(1)
    model = stas_neuro.load_model(model) if isinstance(model, Path) else model
    model = model.float().eval()
    pixels = torch.from_numpy(normalise(images, model.config.mean, model.config.std)).float()

    def call() -> float:
        begun = time.process_time()
        with torch.inference_mode():
            for part in pixels.split(CHUNK):
                model(part, skip=False)
        return time.process_time() - begun

    return call


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: both")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--json", action="store_true", help="print JSON instead")
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds must be at least 1")
    if unknown := set(given.models) - MODELS.keys():
        parser.error(f"{sorted(unknown)} are no models of {', '.join(MODELS)}")
    for name in given.models or MODELS:
        found = measure(name, given.rounds)
        if given.json:
            print(json.dumps(asdict(found) | {"bound": found.bound, "holds": found.holds}), flush=True)
        else:
            print(found.told(), flush=True)


if __name__ == "__main__":
    main()
