"""Run one of the experiments of docs/experiments.md: a sweep, its data as Parquet, and a picture.

    python examples/experiments.py epsilon -o runs/epsilon

An experiment that was interrupted continues. The figures of energy are estimated, not measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import altair as alt
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import Progress

import stas_neuro
from stas_neuro.report.charts import write_chart
from stas_neuro.report.charts.style import colours_of, finished, rows, shapes_of

ROOT = Path(__file__).parents[1]
ESTIMATED = "Energy is estimated from published and assumed figures, not measured."
Row = dict[str, Any]
SIDE = 330
"""Width of a panel in pixels."""
POLICIES = {
    "halting": "halting, trained (epsilon)",
    "image": "image exit (margin)",
    "score": "fixed share, lowest scores",
    "rate": "fixed share, most spikes",
    "random": "fixed share, at random",
}


def lines(found: Iterable[Row], x: str, y: str, colour: str, /, **titles: Any) -> Any:
    """Return a panel of lines with marks; the keywords are titles by channel, and `log` for x."""
    listed = [row for row in found if row.get(y) is not None]
    names = list(dict.fromkeys(str(row[colour]) for row in listed))
    scale = alt.Scale(type="log", base=2) if titles.get("log") else alt.Scale(zero=False)
    return (
        alt.Chart(rows(listed))
        .mark_line(point=alt.OverlayMarkDef(size=70))
        .encode(
            x=alt.X(f"{x}:Q", title=titles["x"], scale=scale),
            y=alt.Y(f"{y}:Q", title=titles["y"], axis=alt.Axis(format=titles.get("format", "~s"))),
            color=alt.Color(f"{colour}:N", title=titles["colour"], scale=colours_of(names)),
            shape=alt.Shape(f"{colour}:N", title=titles["colour"], scale=shapes_of(names)),
        )
        .properties(width=SIDE, height=210)
    )


def deployed(row: Row) -> str:
    """Name the chip and the mode of a price."""
    return f"{row['estimate.profile']}, {row['estimate.mode']}"


def microjoules(found: Iterable[Row]) -> list[Row]:
    """Add the energy in uJ, the deployment and percentages."""
    return [
        row
        | {
            "energy": 1e6 * row["estimate_energy_j"],
            "deployed": deployed(row),
            "accuracy": 100 * row["run_accuracy"],
            "visits": 100 * row["run_token_ratio"],
        }
        for row in found
        if row["error"] is None and row.get("estimate_energy_j") is not None
    ]


def epsilon(found: list[Row]) -> tuple[Any, list[Row]]:
    """Energy, accuracy, zombies and scores over the threshold."""
    priced = [row | {"epsilon": row["compile.epsilon"]} for row in microjoules(found)]
    one = [row | {"what": "accuracy"} for row in priced if row["deployed"] == priced[0]["deployed"]]
    shares = [
        {"epsilon": row["compile.epsilon"], "share": 100 * row[f"measure_{name}"], "tokens": words}
        for row in one
        for name, words in (
            ("never", "all that never reach the threshold"),
            ("zombies", "zombies: 80 % of it or more"),
        )
    ]
    bins = [
        {
            "epsilon": f"{row['compile.epsilon']:g}",
            "score": place / 10 + 0.05,
            "share": 100 * row[f"measure_bin{place}"],
        }
        for row in one
        for place in range(10)
    ]
    histogram = (
        alt.Chart(rows(bins))
        .mark_rect()
        .encode(
            x=alt.X("score:Q", bin=alt.Bin(step=0.1), title="accumulated score / threshold at the end"),
            y=alt.Y("epsilon:N", title="epsilon"),
            color=alt.Color("share:Q", title="tokens (%)", scale=alt.Scale(scheme="viridis", type="sqrt")),
        )
        .properties(width=SIDE, height=210)
    )
    energy = lines(
        priced,
        "epsilon",
        "energy",
        "deployed",
        x="epsilon",
        y="energy of an image (uJ)",
        colour="chip, mode",
    )
    accuracy = lines(
        one,
        "epsilon",
        "accuracy",
        "what",
        x="epsilon",
        y="accuracy (%)",
        colour="measured",
    )
    stuck = lines(shares, "epsilon", "share", "tokens", x="epsilon", y="tokens (%)", colour="tokens")
    table = [
        {
            "epsilon": row["compile.epsilon"],
            "visits %": row["visits"],
            "accuracy %": row["accuracy"],
            "zombies %": 100 * row["measure_zombies"],
            "never %": 100 * row["measure_never"],
            **{
                deployed(each): each["energy"]
                for each in priced
                if each["compile.epsilon"] == row["compile.epsilon"]
            },
        }
        for row in one
    ]
    return _grid([[energy, accuracy], [stuck, histogram]]), table


def accumulation(found: list[Row]) -> tuple[Any, list[Row]]:
    """Energy and accuracy by the rule of accumulation."""
    priced = microjoules(found)
    names = list(dict.fromkeys(row["compile.accumulate"] for row in priced))
    listed = [row | {"rule": row["compile.accumulate"]} for row in priced]
    dots = (
        alt.Chart(rows(listed))
        .mark_point(size=90, filled=True)
        .encode(
            x=alt.X("energy:Q", title="energy of an image (uJ)", scale=alt.Scale(zero=False)),
            y=alt.Y("accuracy:Q", title="accuracy (%)", scale=alt.Scale(zero=False, padding=15)),
            color=alt.Color("rule:N", title="accumulation", scale=colours_of(names)),
            shape=alt.Shape("rule:N", title="accumulation", scale=shapes_of(names)),
        )
        .properties(width=SIDE, height=180)
    )
    panels = [
        dots.transform_filter(alt.datum.deployed == name).properties(title=name)
        for name in dict.fromkeys(row["deployed"] for row in listed)
    ]
    table = _by(priced, "compile.accumulate", ("visits", "accuracy"))
    return _grid([panels[at : at + 2] for at in range(0, len(panels), 2)]), table


def quantisation(found: list[Row]) -> tuple[Any, list[Row]]:
    """Agreement of integer programs with the float network over the bits of weights."""
    kinds = {
        "measure_same_visits": "visits that are equal",
        "measure_same_halt": "tokens that make as many visits",
        "measure_near_halt": "tokens within one visit",
        "measure_same_class": "images with the same class",
        "measure_fixed_accuracy": "accuracy of the integer program",
    }
    fine = [row for row in found if row["error"] is None]
    shares = [
        {"bits": row["compile.bits"], "share": 100 * row[name], "what": words}
        for row in fine
        for name, words in kinds.items()
    ]
    panel = lines(
        shares,
        "bits",
        "share",
        "what",
        x="bits of a weight",
        y="share (%)",
        colour="of the integer program, against floats",
    )
    table = [
        {"bits": row["compile.bits"], **{words: 100 * row[name] for name, words in kinds.items()}}
        | {"visits %": 100 * row["measure_fixed_visits"]}
        for row in fine
    ]
    return panel.properties(width=460, height=300), table


def width(found: list[Row]) -> tuple[Any, list[Row]]:
    """Saving by halting over the width of the network, for each chip."""
    priced = [row for row in found if row["error"] is None and row.get("estimate_energy_j") is not None]
    energies = {
        (deployed(row), row["estimate.scale-width"], row["compile.accumulate"]): row["estimate_energy_j"]
        for row in priced
    }
    savings = [
        {"deployed": name, "width": int(size), "saving": 100 * (1 - energy / energies[name, size, "off"])}
        for (name, size, rule), energy in energies.items()
        if rule == "raster" and (name, size, "off") in energies
    ]
    panel = lines(
        savings,
        "width",
        "saving",
        "deployed",
        x="width D",
        y="saved by halting (%)",
        colour="chip, mode",
        log=True,
    )
    table = _pivot(savings, "deployed", "width", "saving")
    return panel.properties(width=460, height=320), table


def rivals(found: list[Row]) -> tuple[Any, list[Row]]:
    """Accuracy over the share of visits, by policy."""
    listed = [
        {
            "policy": POLICIES[row["measure.policy"]],
            "visits": 100 * row["measure_visits"],
            "accuracy": 100 * row["measure_accuracy"],
            "cost": row["measure.cost"],
        }
        for row in found
        if row["error"] is None
    ]
    panel = lines(
        listed,
        "visits",
        "accuracy",
        "policy",
        x="visits that are made (%)",
        y="accuracy (%)",
        colour="policy",
    )
    return panel.properties(width=460, height=320), listed


def steps(found: list[Row]) -> tuple[Any, list[Row]]:
    """Energy and accuracy of models trained for several numbers of steps."""
    priced = [
        row | {"T": row["train.time-steps"], "rule": row["train.accumulate"]} for row in microjoules(found)
    ]
    one = [row for row in priced if row["deployed"] == priced[0]["deployed"]]
    accuracy = lines(
        one, "T", "accuracy", "rule", x="time steps T", y="accuracy (%)", colour="accumulation", log=True
    )
    panels = [
        lines(
            [row for row in priced if row["deployed"] == name],
            "T",
            "energy",
            "rule",
            x="time steps T",
            y="energy of an image (uJ)",
            colour="accumulation",
            log=True,
        ).properties(title=name)
        for name in dict.fromkeys(row["deployed"] for row in priced)
    ]
    table = [
        {"T": row["T"], "accumulation": row["rule"], "visits %": row["visits"], "accuracy %": row["accuracy"]}
        | {
            each["deployed"]: each["energy"]
            for each in priced
            if (each["T"], each["rule"]) == (row["T"], row["rule"])
        }
        for row in one
    ]
    return _grid([[accuracy], panels[:2], panels[2:]]), table


def stems(found: list[Row]) -> tuple[Any, list[Row]]:
    """Similarity of tokens over time, energy and accuracy, by stem and accumulation."""
    priced = [
        row | {"stem": row["train.stem"], "rule": row["train.accumulate"]} for row in microjoules(found)
    ]
    one = [row for row in priced if row["deployed"] == priced[0]["deployed"]]
    places = [name.removeprefix("measure_") for name in one[0] if name.startswith("measure_")]
    near = [
        {"place": place, "similarity": row[f"measure_{place}"], "stem": row["stem"]}
        for row in one
        if row["rule"] == "off"
        for place in places
    ]
    bars = (
        alt.Chart(rows(near))
        .mark_bar()
        .encode(
            x=alt.X("place:N", title="tokens behind", sort=places),
            xOffset="stem:N",
            y=alt.Y("similarity:Q", title="cosine to the step before"),
            color=alt.Color("stem:N", title="stem", scale=colours_of(["sps", "one-step"])),
        )
        .properties(width=SIDE, height=210)
    )
    dots = (
        alt.Chart(rows([row for row in priced if row["deployed"] == "loihi2, single"]))
        .mark_point(size=90, filled=True)
        .encode(
            x=alt.X("energy:Q", title="energy of an image (uJ), loihi2, single", scale=alt.Scale(zero=False)),
            y=alt.Y("accuracy:Q", title="accuracy (%)", scale=alt.Scale(zero=False)),
            color=alt.Color("stem:N", title="stem", scale=colours_of(["sps", "one-step"])),
            shape=alt.Shape("rule:N", title="accumulation"),
        )
        .properties(width=SIDE, height=210)
    )
    table = [
        {
            "stem": row["stem"],
            "accumulation": row["rule"],
            "visits %": row["visits"],
            "accuracy %": row["accuracy"],
        }
        | {
            each["deployed"]: each["energy"]
            for each in priced
            if (each["stem"], each["rule"]) == (row["stem"], row["rule"])
        }
        | {place: row[f"measure_{place}"] for place in places}
        for row in one
    ]
    return _grid([[bars, dots]]), table


Draw = Callable[[list[Row]], tuple[Any, list[Row]]]
TITLES: Mapping[str, tuple[Draw, str, str]] = {
    "epsilon": (
        epsilon,
        "Energy, accuracy and zombies over the threshold of halting",
        "shipped Spikformer, Fashion-MNIST, 8-bit weights, 64 images (scores: 8)",
    ),
    "accumulation": (
        accumulation,
        "Rules of accumulation",
        "shipped Spikformer, trained with raster, Fashion-MNIST, 8-bit weights, 64 images",
    ),
    "quantisation": (
        quantisation,
        "Halting decisions that survive quantisation",
        "shipped Spikformer, Fashion-MNIST, 32 images, without fine-tuning",
    ),
    "width": (
        width,
        "What halting saves, over the width of the network",
        "shipped Spikformer (D 64) and widths scaled from it, 32 images",
    ),
    "rivals": (
        rivals,
        "Ways to make fewer visits, with the same weights",
        "shipped Spikformer, Fashion-MNIST, 64 images, no policy but halting was trained",
    ),
    "steps": (steps, "Models trained for 1, 2, 4 and 8 time steps", "preset tiny, digits, 8-bit weights"),
    "stems": (
        stems,
        "Stems computed once or in each step, and halting",
        "preset tiny, digits, 8-bit weights",
    ),
}


def _grid(panels: list[list[Any]]) -> Any:
    chart = alt.vconcat(*(alt.hconcat(*row) for row in panels if row))
    return chart.resolve_scale(color="independent", shape="independent", x="independent", y="independent")


def _by(priced: list[Row], name: str, measured: tuple[str, ...]) -> list[Row]:
    """Return a row for each value of an axis, with the energy of each deployment."""
    found: dict[Any, Row] = {}
    for row in priced:
        own = found.setdefault(row[name], {name: row[name], **{f"{each} %": row[each] for each in measured}})
        own[row["deployed"]] = row["energy"]
    return list(found.values())


def _pivot(found: list[Row], down: str, across: str, value: str) -> list[Row]:
    table: dict[Any, Row] = {}
    for row in found:
        table.setdefault(row[down], {down: row[down]})[str(row[across])] = row[value]
    return list(table.values())


def markdown(table: list[Row]) -> str:
    """Format rows as a table; numbers with three digits."""
    names = list(dict.fromkeys(name for row in table for name in row))

    def cell(value: Any) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    body = [" | ".join(cell(row.get(name, "-")) for name in names) for row in table]
    return "\n".join(f"| {line} |" for line in (" | ".join(names), "|".join("-" for _ in names), *body))


def main() -> None:
    """Run the sweep, print its table and draw its picture."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("name", choices=TITLES, help="the experiment")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="directory of the sweep and the picture"
    )
    parser.add_argument("--jobs", type=int, help="processes (one for each processor)")
    parser.add_argument("--scheduler", help="address of a Dask scheduler, instead of processes")
    parser.add_argument("--retry", action="store_true", help="compute cells that failed again")
    arguments = parser.parse_args()
    draw, title, subject = TITLES[arguments.name]
    config = ROOT / "examples" / "sweeps" / f"{arguments.name}.toml"
    with Progress(console=Console(stderr=True)) as bars:
        bar = bars.add_task(arguments.name)
        done = stas_neuro.sweep(
            config,
            arguments.output,
            jobs=arguments.jobs,
            scheduler=arguments.scheduler,
            retry=arguments.retry,
            report=lambda done, total: bars.update(bar, completed=done, total=total),
        )
    found = pq.read_table(done.results).to_pylist()
    chart, table = draw(found)
    priced = any("estimate_energy_j" in row for row in found)
    picture = arguments.output / f"{arguments.name}.png"
    write_chart(picture, finished(chart, title, subject, ESTIMATED if priced else ""), force=True)
    print(markdown(table))
    failed = f"; {done.failed} of them failed, one with: {done.error}" if done.failed else ""
    print(f"\n{done.cells} cells{failed}; data: {done.results}, picture: {picture}")


if __name__ == "__main__":
    main()
