"""Draw the pictures of docs/concepts.md.

python examples/concepts.py docs
"""

from __future__ import annotations

import argparse
from pathlib import Path

import altair

import stas_neuro
from stas_neuro.analysis import spiking_stages
from stas_neuro.energy import core_work
from stas_neuro.report.charts import core_work_chart, costs_chart, write_chart
from stas_neuro.report.charts.style import colours_of, finished, rows

HERE = Path(__file__).parent
MODEL, IMAGES = HERE / "models" / "fashion-spikformer", HERE / "data" / "fashion-mnist-512.npz"
CHIP = "loihi2"
WITH, WITHOUT = "with halting", "without halting"


def schedules_chart(stages: int, time_steps: int) -> altair.VConcatChart:
    """Draw which spiking stage works for which model step in each hardware step, on both schedules."""
    names = [f"model step {step + 1}" for step in range(time_steps)]
    starts = {"raster: one model step after another": stages, "pipelined: one hardware step apart": 1}
    charts = []
    for name, apart in starts.items():
        values = [
            {"at": at, "until": at + 1, "stage": stage + 1, "step": names[step]}
            for step in range(time_steps)
            for stage in range(stages)
            for at in [apart * step + stage]
        ]
        charts.append(
            altair.Chart(rows(values), title=f"{name}, {values[-1]['until']} hardware steps")
            .mark_rect(stroke="white")
            .encode(
                x=altair.X(
                    "at:Q", title="hardware step", scale=altair.Scale(domain=[0, stages * time_steps])
                ),
                x2="until:Q",
                y=altair.Y("stage:O", title="spiking stage"),
                color=altair.Color("step:N", title="works for", scale=colours_of(names)),
            )
            .properties(width=620, height=150)
        )
    return finished(altair.vconcat(*charts), "Two schedules of the shipped model")


def main() -> None:
    """Run the model with and without halting, and write three pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path, help="where to write concept-*.svg")
    directory = parser.parse_args().directory
    images = stas_neuro.load_data(str(IMAGES))
    bundles = {
        name: stas_neuro.compile(
            MODEL, bits=8, calibrate=images, placement="token-major", groups=7, accumulate=policy
        )
        for name, policy in ((WITH, None), (WITHOUT, "off"))
    }
    runs = {name: stas_neuro.run(bundle, images, limit=16) for name, bundle in bundles.items()}
    chip = stas_neuro.load_profile(CHIP)
    work = core_work(runs[WITH].activity.restrict(slice(0, 1)), chip)
    prices = {name: [stas_neuro.estimate(run.activity, CHIP)] for name, run in runs.items()}
    graph = bundles[WITH].graph
    pictures = {
        "halting": core_work_chart(work, run="the first image, with halting"),
        "schedules": schedules_chart(spiking_stages(graph), graph.time_steps),
        "intervals": costs_chart(prices, title="Energy of an image, with both of its ranges"),
    }
    for name, chart in pictures.items():
        write_chart(directory / f"concept-{name}.svg", chart, force=True)


if __name__ == "__main__":
    main()
