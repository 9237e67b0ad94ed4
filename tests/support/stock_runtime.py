"""A small pipeline of stock processes in Lava's own runtime and in the in-process executor; prints "equal".

To be run as a script: Lava's runtime forks, and hangs where something goes wrong.
"""

from __future__ import annotations

import numpy as np

from stas_neuro.exporters.lava.lava_api import RunSteps
from stas_neuro.exporters.lava.stock.execute import execute
from stas_neuro.exporters.lava.stock.netlist import (
    FIRST,
    SPIKE,
    Lif,
    Netlist,
    Pipeline,
    Product,
    Signal,
    one_to_one,
    weighted,
)
from stas_neuro.exporters.lava.stock.processes import assembled
from stas_neuro.ir import Problems, Range

STEPS, PERIOD, SIZE = 20, 4, 3


def pipeline() -> Pipeline:
    """An image's spikes, latched; leaky neurons reset for each image; a product: all kinds of groups."""
    netlist = Netlist(Problems())
    each = np.arange(SIZE)
    first = Signal(netlist.source("control", 2, SPIKE, per_step=True), np.array([FIRST]))
    image = Signal(netlist.source("image", SIZE, Range(0, 255), per_step=False), each)
    spikes = Signal(netlist.threshold("spikes", SIZE, one_to_one(image), "", vth=100, once=True), each)
    clear = weighted(first, each, np.zeros_like(each), np.full(SIZE, -1))
    latch = netlist.threshold("latch", SIZE, [*one_to_one(spikes, weight=2), *clear], "", latch=1)
    held = Signal(latch, each)
    leaky = Lif(2048, 3, np.array([0, 1, -1]), 6, "image")
    slow = netlist.add("slow", leaky, SIZE, weighted(held, each, each, np.array([3, -2, 600])), "")
    ports = one_to_one(Signal(slow, each), port="a_in1") + one_to_one(held, weight=5, port="a_in2")
    netlist.add("product", Product(), SIZE, ports, "")
    return netlist.pipeline(PERIOD)


def main() -> None:
    inputs = {name: np.zeros((size, STEPS), np.int64) for name, size in (("control", 2), ("image", SIZE))}
    inputs["control"][FIRST, ::PERIOD] = 1
    inputs["image"][:, ::PERIOD] = np.random.default_rng(0).integers(0, 256, (SIZE, STEPS // PERIOD))
    with assembled(pipeline(), inputs, STEPS) as assembly:
        process = assembly.order[-1]
        process.create_runtime(executable=assembly.executable)
        process.run(RunSteps(num_steps=STEPS))
        theirs = {name: sink.data.get() for name, sink in assembly.sinks.items()}
        process.stop()
    with assembled(pipeline(), inputs, STEPS) as assembly:
        ours = execute(assembly, STEPS)
    assert ours.keys() == theirs.keys()
    for name, sent in ours.items():
        np.testing.assert_array_equal(theirs[name], sent, err_msg=name)
        assert sent.any(), name
    print("equal")


if __name__ == "__main__":
    main()
