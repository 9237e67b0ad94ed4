"""Runs one Lava process between feeds and taps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from unittest.mock import patch

import numpy as np

from stas_neuro.exporters.lava.assemble import Assembly, ModelsOf
from stas_neuro.exporters.lava.executor import execute
from stas_neuro.exporters.lava.lava_api import implements
from stas_neuro.exporters.lava.processes import (
    FIXED_POINT,
    FLOATING_POINT,
    PROCESSES,
    Inlet,
    LayerModel,
    LayerProcess,
    Run,
)
from stas_neuro.exporters.lava.schedule import EACH, Window

Array = np.ndarray
Record = dict[str, Array]


class Tap(LayerProcess):
    """Keeps every message."""


@implements(proc=Tap)
class PyTapModel(LayerModel):
    def _compute(self, x: Array) -> None:
        self.record.setdefault("x", np.zeros((self.run_spec.images, self.window.steps, *x.shape), x.dtype))
        self.record["x"][self.now.image, self.now.step] = x


def stepped(
    op: str,
    inputs: Mapping[str, Array],
    outputs: Mapping[str, tuple[int, ...]],
    *,
    params: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Array] | None = None,
    kinds: Mapping[str, str] | None = None,
    arrival: str = EACH,
    sends_last: bool = False,
    dtype: type = np.float64,
    record_spikes: bool = False,
    record_states: bool = False,
) -> tuple[dict[str, Array], Record]:
    """Send `inputs` (images, steps, *shape) through one process; what left each port, and its record."""
    images, steps = next(iter(inputs.values())).shape[:2]
    run = Run(
        images=images, period=steps, dtype=dtype, record_spikes=record_spikes, record_states=record_states
    )
    window, last = Window(0, steps), Window(steps - 1, 1)
    shapes = {port: data.shape[2:] for port, data in inputs.items()}
    feeds = {
        port: PROCESSES["Input"](
            name=f"feed.{port}", inlets={}, outlets={"y": shapes[port]}, params={"shape": shapes[port]},
            tensors={"images": data}, window=window, run=run,
        )
        for port, data in inputs.items()
    }  # fmt: skip
    process = PROCESSES[op](
        name="it",
        inlets={
            port: Inlet(shape, (kinds or {}).get(port, "spike"), arrival) for port, shape in shapes.items()
        },
        outlets=outputs,
        params=params or {},
        tensors=tensors or {},
        window=window,
        run=run,
    )
    taps = {
        port: Tap(
            name=f"tap.{port}", inlets={"x": Inlet(shape, "current", EACH)}, outlets={}, params={},
            tensors={}, window=last if sends_last else window, run=run,
        )
        for port, shape in outputs.items()
    }  # fmt: skip
    for port, feed in feeds.items():
        feed.y_out.connect(getattr(process, f"{port}_in"))
    for port, tap in taps.items():
        getattr(process, f"{port}_out").connect(tap.x_in)
    processes = (*feeds.values(), process, *taps.values())
    models = {Tap: PyTapModel}
    with patch.dict(FLOATING_POINT, models), patch.dict(FIXED_POINT, models):
        executable = process.compile(ModelsOf(processes, run))
    records = execute(Assembly(processes, executable), run, lambda done: None)
    return {port: records[f"tap.{port}"]["x"] for port in outputs}, records["it"]
