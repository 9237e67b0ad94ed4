"""The pictures and tables of the experiments of docs/experiments.md, each made of the rows of its sweep."""

from __future__ import annotations

from typing import Any

import altair as alt
from experiment_panels import (
    HEIGHT,
    SIDE,
    Row,
    dots,
    energies,
    first_deployment,
    grid,
    interval,
    lines,
    measured,
    number,
    over_seeds,
    priced,
)

from stas_neuro.report.charts.style import SHADES, categories, rows

Drawn = tuple[Any, list[Row]]
"""A chart, and the rows of its table."""
BIN = 0.1
"""Width of a bin of `measures.scores`."""
POLICIES = {
    "halting": "halting, trained",
    "image": "exit of whole images",
    "score": "fixed share, lowest scores",
    "rate": "fixed share, most spikes",
    "random": "fixed share, at random",
}
AGREEMENT = {
    "measure_same_visits": "visits that are equal",
    "measure_same_halt": "tokens with equally many visits",
    "measure_near_halt": "tokens within one visit",
    "measure_same_class": "images with the same class",
    "measure_fixed_accuracy": "accuracy of the integer program",
}
STUCK = {
    "never": "never reach the threshold",
    "zombies": "zombies: reach 80 % of it or more, not all",
}
SHOWN = ("loihi2, single", "loihi2, stream")
"""The deployments whose energy is drawn beside similarities; the table has all."""
MEANS = ("energy", "energy_low", "energy_high", "accuracy", "visits")
"""What is averaged over seeds."""


def epsilon(found: list[Row]) -> Drawn:
    """Energy, accuracy, zombies and scores over the threshold."""
    listed = [row | {"epsilon": row["compile.epsilon"]} for row in priced(found)]
    one = first_deployment(listed)
    shares = [
        {"epsilon": row["epsilon"], "share": 100 * row[f"measure_{name}"], "tokens": words}
        for row in one
        for name, words in STUCK.items()
    ]
    over = {"x": "epsilon"}
    panels = [
        [
            lines(
                listed, "epsilon", "energy", "deployed",
                **over, y="energy of an image (uJ)", colour="chip, mode", zero=True,
            ),
            lines(one, "epsilon", "accuracy", "deployed", **over, y="accuracy (%), 95 % interval", ends=True),
        ],
        [
            lines(shares, "epsilon", "share", "tokens", **over, y="tokens (%)", colour="tokens", zero=True),
            _scores(one),
        ],
    ]  # fmt: skip
    table = [
        {
            "epsilon": row["epsilon"],
            "visits, %": row["visits"],
            "accuracy, % (95 % interval)": measured(row),
            "zombies, %": 100 * row["measure_zombies"],
            "never, %": 100 * row["measure_never"],
        }
        | energies(listed, epsilon=row["epsilon"])
        for row in one
    ]
    return grid(panels), table


def _scores(found: list[Row]) -> Any:
    """Return the histogram of scores for each epsilon, as shades."""
    bins = sum(name.startswith("measure_bin") for name in found[0])
    shares = [
        {
            "epsilon": number(row["epsilon"]) if row["epsilon"] else "0",
            "from": place * BIN,
            "to": (place + 1) * BIN,
            "share": 100 * row[f"measure_bin{place}"],
        }
        for row in found
        for place in range(bins)
    ]
    title = f"score at the end / threshold (last bin: {number(BIN * (bins - 1))} and more)"
    shades = (
        alt.Chart(rows(shares))
        .mark_rect()
        .encode(
            x=alt.X("from:Q", title=title, scale=alt.Scale(domain=[0, bins * BIN], nice=False)),
            x2="to:Q",
            y=alt.Y("epsilon:N", title="epsilon", sort=categories(row["epsilon"] for row in shares)),
            color=alt.Color("share:Q", title="tokens (%)", scale=alt.Scale(scheme=SHADES, type="sqrt")),
        )
    )
    threshold = alt.Chart(rows([{"at": 1}])).mark_rule(color="white", strokeWidth=2).encode(x="at:Q")
    return alt.layer(shades, threshold).properties(width=SIDE, height=HEIGHT)


def accumulation(found: list[Row]) -> Drawn:
    """Energy, accuracy and visits by the rule of accumulation."""
    listed = [row | {"rule": row["compile.accumulate"]} for row in priced(found)]
    one = first_deployment(listed)
    over = {"x": "accumulation"}
    energy = {"y": "energy of an image (uJ)", "colour": "mode", "zero": True}
    chips = categories(row["estimate.profile"] for row in listed)
    by_chip = {
        chip: [row | {"mode": row["estimate.mode"]} for row in listed if row["estimate.profile"] == chip]
        for chip in chips
    }
    panels = [
        [dots(own, "rule", "energy", "mode", **over, **energy, title=chip) for chip, own in by_chip.items()],
        [
            dots(one, "rule", "accuracy", "deployed", **over, y="accuracy (%), 95 % interval", ends=True),
            dots(one, "rule", "visits", "deployed", **over, y="visits that are made (%)", zero=True),
        ],
    ]
    table = [
        {
            "accumulation": row["rule"],
            "visits, %": row["visits"],
            "accuracy, % (95 % interval)": measured(row),
        }
        | energies(listed, rule=row["rule"])
        for row in one
    ]
    return grid(panels), table


def quantisation(found: list[Row]) -> Drawn:
    """Agreement of integer programs with the float network over the bits of weights."""
    fine = [row | {"bits": row["compile.bits"]} for row in found if row["error"] is None]
    shares = [
        {"bits": row["bits"], "share": 100 * row[name], "what": words}
        for row in fine
        for name, words in AGREEMENT.items()
    ]
    panel = lines(
        shares, "bits", "share", "what",
        x="bits of a weight", y="share (%)", colour="integer program, against floats",
        at=categories(row["bits"] for row in fine), domain=[0, 100], width=460,
    )  # fmt: skip
    table = [
        {"bits": row["bits"]}
        | {f"{words}, %": 100 * row[name] for name, words in AGREEMENT.items()}
        | {"visits, %": 100 * row["measure_fixed_visits"]}
        for row in fine
    ]
    return panel, table


def width(found: list[Row]) -> Drawn:
    """Saving by halting over the width of the network, for each chip."""
    savings = _savings(found)
    sizes = categories(row["width"] for row in savings)
    panels = [
        [
            lines(
                [row for row in savings if (row["mode"], row["rule"]) == (mode, rule)],
                "width", "saving", "chip",
                x="width D", y="saved by halting (%)", colour="chip", log=True, at=sizes,
                title=f"{rule}, {mode}",
            )
            for rule in categories(row["rule"] for row in savings)
        ]
        for mode in categories(row["mode"] for row in savings)
    ]  # fmt: skip
    return grid(panels, shared=("color", "shape")), _break_even(savings)


def _savings(found: list[Row]) -> list[Row]:
    """Return what each rule saves of the energy without halting, in percent.

    Of chips without a published static power, only the energy of events is known: their name says so.
    """
    known: dict[tuple[str, str, int, str], float] = {}
    for row in found:
        if row["error"] is not None:
            continue
        whole = any(
            other.get("estimate_energy_j") is not None
            for other in found
            if other["estimate.profile"] == row["estimate.profile"]
        )
        energy = row["estimate_energy_j" if whole else "estimate_dynamic_energy_j"]
        if energy is not None:
            chip = row["estimate.profile"] + ("" if whole else ", events only")
            size, rule = int(row["estimate.scale-width"]), row["compile.accumulate"]
            known[chip, row["estimate.mode"], size, rule] = energy
    return [
        {"chip": chip, "mode": mode, "rule": rule, "width": size}
        | {"saving": 100 * (1 - energy / known[chip, mode, size, "off"])}
        for (chip, mode, size, rule), energy in known.items()
        if rule != "off" and (chip, mode, size, "off") in known
    ]


def _break_even(savings: list[Row]) -> list[Row]:
    """Return the savings by width, and between which widths halting begins to save."""
    table: dict[tuple[str, ...], Row] = {}
    for row in savings:
        names = {name: row[name] for name in ("chip", "mode", "rule")}
        line = table.setdefault(tuple(names.values()), names)
        line[f"D {row['width']}, %"] = row["saving"]
    for key, line in table.items():
        own = [row for row in savings if (row["chip"], row["mode"], row["rule"]) == key]
        saves = [row["width"] for row in own if row["saving"] > 0]
        loses = [row["width"] for row in own if row["saving"] <= 0]
        if saves and loses:
            line["pays from D"] = f"{max(loses)} to {min(saves)}"
        else:
            line["pays from D"] = f"{min(saves)} or less" if saves else f"not up to {max(loses)}"
    return list(table.values())


def rivals(found: list[Row]) -> Drawn:
    """Accuracy of policies that make as many visits as halting."""
    fine = [row for row in found if row["error"] is None]
    as_many = {
        row["measure.epsilon"]: f"{100 * row['measure_visits']:.0f} %"
        for row in fine
        if row["measure.policy"] == "halting"
    }
    listed = []
    for row in fine:
        ends = interval(row["measure_accuracy"], row["measure_images"])
        listed.append(
            {
                "policy": POLICIES[row["measure.policy"]],
                "epsilon": row["measure.epsilon"],
                "as many": as_many[row["measure.epsilon"]],
                "visits": 100 * row["measure_visits"],
                "accuracy": 100 * row["measure_accuracy"],
                "accuracy_low": 100 * ends[0],
                "accuracy_high": 100 * ends[1],
                "only halting": row["measure_only_halting"],
                "only rival": row["measure_only_rival"],
                "p": row["measure_p"],
            }
        )
    panel = dots(
        sorted(listed, key=lambda row: -row["epsilon"]), "as many", "accuracy", "policy",
        x="visits that halting makes", y="accuracy (%), 95 % interval", colour="policy", ends=True, width=520,
    )  # fmt: skip
    table = [
        {
            "epsilon of halting": row["epsilon"],
            "policy": row["policy"],
            "visits, %": row["visits"],
            "accuracy, % (95 % interval)": measured(row),
        }
        | (_paired(row) if row["policy"] != POLICIES["halting"] else {})
        for row in sorted(listed, key=lambda row: row["epsilon"])
    ]
    return panel, table


def _paired(row: Row) -> Row:
    """Return the comparison with halting on the same images."""
    return {
        "only halting is right": row["only halting"],
        "only this is right": row["only rival"],
        "p (McNemar)": row["p"],
    }


def steps(found: list[Row]) -> Drawn:
    """Energy and accuracy of models trained for several numbers of steps."""
    names = {"T": "train.time-steps", "rule": "train.accumulate"}
    listed = [row | {name: row[axis] for name, axis in names.items()} for row in priced(found)]
    joined = over_seeds(listed, ("T", "rule", "deployed"), MEANS)
    one = first_deployment(joined)
    over = {"x": "time steps T", "colour": "accumulation", "log": True}
    over["at"] = categories(row["T"] for row in joined)
    by_price = [
        lines(
            [row for row in joined if row["deployed"] == name], "T", "energy", "rule",
            **over, y="energy of an image (uJ)", zero=True, title=name,
        )
        for name in categories(row["deployed"] for row in joined)
    ]  # fmt: skip
    of_models = [
        dots(one, "T", "accuracy", "rule", **over, y="accuracy (%), range of seeds", ends=True),
        lines(one, "T", "visits", "rule", **over, y="visits that are made (%)", zero=True),
    ]
    table = [
        {"T": row["T"], "accumulation": row["rule"], **_over_seeds(row)}
        | energies(joined, T=row["T"], rule=row["rule"])
        for row in one
    ]
    return grid([of_models, by_price[:2], by_price[2:]]), table


def _over_seeds(row: Row) -> Row:
    return {
        "seeds": row["seeds"],
        "visits, %": row["visits"],
        "accuracy, % (range of seeds)": measured(row),
    }


def stems(found: list[Row]) -> Drawn:
    """Similarity of tokens over time, energy and accuracy, by stem and accumulation."""
    names = {"stem": "train.stem", "rule": "train.accumulate"}
    listed = [row | {name: row[axis] for name, axis in names.items()} for row in priced(found)]
    places = [name for name in listed[0] if name.startswith("measure_cosine_")]
    joined = over_seeds(listed, ("stem", "rule", "deployed"), (*MEANS, *places))
    one = first_deployment(joined)
    near = [
        {
            "place": place.removeprefix("measure_cosine_"),
            **{f"cosine{end}": row[f"{place}{end}"] for end in ("", "_low", "_high")},
            "stem": row["stem"],
        }
        for row in one
        if row["rule"] == "off"
        for place in places
    ]
    similar = dots(
        near, "place", "cosine", "stem",
        x="tokens behind", y="cosine to the step before, range of seeds", colour="stem",
        domain=[0, 1], ends=True, title="similarity of tokens over time, no halting",
    )  # fmt: skip
    over = {"x": "stem", "colour": "accumulation"}
    panels = [
        [similar, dots(one, "stem", "accuracy", "rule", **over, y="accuracy (%), range of seeds", ends=True)],
        [
            dots(
                [row for row in joined if row["deployed"] == name],
                "stem", "energy", "rule", **over, y="energy of an image (uJ)", zero=True, title=name,
            )
            for name in SHOWN
        ],
    ]  # fmt: skip
    table = [
        {"stem": row["stem"], "accumulation": row["rule"], **_over_seeds(row)}
        | energies(joined, stem=row["stem"], rule=row["rule"])
        | {f"cosine, {place.removeprefix('measure_cosine_')}": row[place] for place in places}
        for row in one
    ]
    return grid(panels), table
