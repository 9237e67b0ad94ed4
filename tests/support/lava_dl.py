"""Runs netx files with lava-dl on Lava, and makes one with slayer.

It runs in a process of its own: lava-dl brings torch, and Lava its process start method.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

_TESTS = Path(__file__).parents[1]


def in_process(slayer: Path, runs: Sequence[Path]) -> None:
    """Export a network of slayer to a file, and `run` networks with their inputs, in one new process."""
    paths = os.pathsep.join([str(_TESTS), str(_TESTS.parent)])
    done = subprocess.run(
        [sys.executable, "-m", "support.lava_dl", str(slayer), *map(str, runs)],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def main(slayer: str, *files: str) -> None:
    """Do so; `files` are names of a network, inputs and outputs in turn.

    Inputs are spikes with the steps last, or biases of input neurons, in Lava's axes; outputs the spikes of
    the last layer. Each layer is reset in the step in which the first input reaches it.
    """
    from stas_neuro.exporters.lava.dl import load_hdf5

    hdf5 = load_hdf5()
    export_slayer(slayer)
    for network, inputs, outputs in zip(files[::3], files[1::3], files[2::3], strict=True):
        with np.load(inputs) as given:
            made = hdf5.Network(
                network,
                input_shape=given["spikes"].shape[:-1] if "spikes" in given else None,
                reset_interval=10_000,
                reset_offset=int("spikes" in given),
            )
            np.save(outputs, _run(made, given))


def _run(network: Any, given: Any) -> Any:
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc import io

    steps = int(given["steps"])
    sink = io.sink.RingBuffer(shape=network.out.shape, buffer=steps)
    network.out.connect(sink.a_in)
    if "spikes" in given:
        source = io.source.RingBuffer(data=given["spikes"].astype(np.int32))
        source.s_out.connect(network.inp)
    else:
        network.in_layer.neuron.bias_mant.init = given["biases"].astype(np.int32)
    network.run(condition=RunSteps(num_steps=steps), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    spikes = sink.data.get()
    network.stop()
    return spikes


def export_slayer(path: str) -> None:
    """Export a network of slayer as it is initialised: two convolutions, layers, a norm that makes biases."""
    import h5py
    import torch
    from lava.lib.dl import slayer

    torch.manual_seed(2)
    neuron = {"threshold": 0.5, "current_decay": 0.3, "voltage_decay": 0.1}
    biased = neuron | {"norm": slayer.neuron.norm.MeanOnlyBatchNorm}
    blocks = torch.nn.ModuleList(
        [
            slayer.block.cuba.Conv(biased, 2, 4, 3, stride=1, padding=1, weight_scale=3),
            slayer.block.cuba.Conv(neuron, 4, 6, (3, 2), stride=(1, 2), groups=2, weight_scale=3),
            slayer.block.cuba.Flatten(),
            slayer.block.cuba.Dense(neuron, 6 * 4 * 3, 10, weight_scale=3),
            slayer.block.cuba.Dense(neuron, 10, 5, weight_scale=4),
        ]
    )
    x = (torch.rand(3, 2, 6, 6, 20) < 0.3).float()
    for block in blocks:  # which statistics and shapes come from
        x = block(x)
    with h5py.File(path, "w") as file:
        for index, block in enumerate(blocks):
            block.export_hdf5(file.create_group(f"layer/{index}"))


if __name__ == "__main__":
    main(*sys.argv[1:])
