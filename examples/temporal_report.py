"""Compare the networks of `temporal.py` over seeds: tests of significance, the verdict, the table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest, permutation_test

MEAN, STATIC = "T = 1, mean of all frames", "static"
CUT, HELD_OUT = "cut ", ", held-out images"
"""Begin of the names of `STATIC` with fewer steps, and end of those of results on other images."""
ALPHA = 0.05
"""Level of significance."""
MOST_LOSS = 0.01
"""Largest loss of accuracy by halting, on held-out images."""


@dataclass(frozen=True)
class Result:
    """What a network does on the test images.

    ``right`` is bool (n,); ``steps`` the mean number of model steps of a token, its visits / L;
    ``op_count_j`` the energy of an image by the count of operations (45 nm).
    """

    right: NDArray[np.bool_]
    steps: float
    op_count_j: float

    @property
    def accuracy(self) -> float:
        """Share of the images that are classified correctly."""
        return float(self.right.mean())

    def to_json(self) -> dict[str, Any]:
        """Return plain data; `from_json` is the reverse."""
        right = "".join(map(str, self.right.astype(int)))
        return {"right": right, "steps": self.steps, "op_count_j": self.op_count_j}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Result:
        """Return the result of `to_json`."""
        right = np.array(list(document["right"])) == "1"
        return cls(right, document["steps"], document["op_count_j"])


def mcnemar(better: NDArray[np.bool_], worse: NDArray[np.bool_]) -> float:
    """Return the exact one-sided p of McNemar's test: the first is right more often, on the same images."""
    gained, lost = int((better & ~worse).sum()), int((worse & ~better).sum())
    return float(binomtest(gained, gained + lost, alternative="greater").pvalue) if gained + lost else 1.0


def over_seeds(better: Sequence[float], worse: Sequence[float]) -> float:
    """Return the exact one-sided p that the first are larger: the mean difference, over all signs by seed.

    Its smallest value is 1/2^seeds, 0.03 for five.
    """
    test = permutation_test(
        (np.array(better), np.array(worse)),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        alternative="greater",
        n_resamples=np.inf,
        vectorized=True,
    )
    return float(test.pvalue)


def report_of(results: Mapping[int, Mapping[str, Result]], halting: Sequence[str]) -> dict[str, Any]:
    """Choose a network with halting by held-out images; return how it compares with all, and the verdict.

    It is the one with the fewest operations that loses at most `MOST_LOSS` of the accuracy of `STATIC`, or
    the most accurate one if all lose more.

    Parameters
    ----------
    results : results by seed and network
    halting : names of the networks with halting
    """
    held = {name: [found[f"{name}{HELD_OUT}"] for found in results.values()] for name in (STATIC, *halting)}
    accuracy = {name: float(np.mean([each.accuracy for each in found])) for name, found in held.items()}
    cost = {name: float(np.mean([each.op_count_j for each in found])) for name, found in held.items()}
    able = [name for name in halting if accuracy[name] >= accuracy[STATIC] - MOST_LOSS]
    chosen = min(able, key=lambda name: cost[name]) if able else max(halting, key=lambda name: accuracy[name])
    rows = summary(results, chosen)
    return {"held_out_accuracy": accuracy, "verdict": verdict(rows, chosen), "networks": rows}


def summary(results: Mapping[int, Mapping[str, Result]], chosen: str) -> list[dict[str, Any]]:
    """Return a row for each network on the test images, and how the chosen network compares with it."""
    rows = []
    ours = [found[chosen] for found in results.values()]
    for name in (name for name in next(iter(results.values())) if not name.endswith(HELD_OUT)):
        theirs = [found[name] for found in results.values()]
        accuracies = [each.accuracy for each in theirs]
        tests = [mcnemar(a.right, b.right) for a, b in zip(ours, theirs, strict=True)]
        rows.append(
            {
                "network": name,
                "accuracy": float(np.mean(accuracies)),
                "std": float(np.std(accuracies, ddof=1)),
                "accuracies": accuracies,
                "steps": float(np.mean([each.steps for each in theirs])),
                "op_count_j": float(np.mean([each.op_count_j for each in theirs])),
                "p_over_seeds": over_seeds([each.accuracy for each in ours], accuracies),
                "p_mcnemar": tests,
            }
        )
    return rows


def verdict(rows: Sequence[Mapping[str, Any]], chosen: str) -> dict[str, Any]:
    """Test whether T = 1 and networks that stop after T' < T frames are worse than the chosen one.

    The best of them is the one with the highest accuracy on the test images, which favours it.
    """
    by_name = {row["network"]: row for row in rows}
    cuts = [row for name, row in by_name.items() if name.startswith(("first ", CUT))]
    cheap = [row for row in cuts if row["op_count_j"] <= by_name[chosen]["op_count_j"]]
    groups = {
        "T = 1": [by_name[name] for name in (MEAN, "first 1", f"{CUT}1")],
        "static T' < T": cuts,
        "static T' < T, no more operations": cheap,
    }
    best = {what: max(group, key=lambda row: row["accuracy"]) for what, group in groups.items() if group}
    worse = {what: row["p_over_seeds"] < ALPHA for what, row in best.items()}
    return {
        "network": chosen,
        "best": {what: row["network"] for what, row in best.items()},
        "p": {what: row["p_over_seeds"] for what, row in best.items()},
        "worse": worse,
        "accepted": worse["T = 1"] and worse["static T' < T"],
    }


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print a report."""
    outcome, rows = report["verdict"], report["networks"]
    chosen = outcome["network"]
    table = Table("network", "accuracy", "std", "steps", "nJ (45 nm)", f"p ({chosen} better)", "seeds p<.05")
    for row in rows:
        if row["network"].startswith(CUT):
            continue
        significant = sum(p < ALPHA for p in row["p_mcnemar"])
        shares = (f"{row['accuracy']:.2%}", f"{row['std']:.2%}", f"{row['steps']:.2f}")
        cost = f"{1e9 * row['op_count_j']:.1f}"
        of = f"{significant} of {len(row['p_mcnemar'])}"
        table.add_row(row["network"], *shares, cost, f"{row['p_over_seeds']:.4f}", of)
    console.print(table)
    curve = (f"{row['accuracy']:.1%}" for row in rows if row["network"].startswith(CUT))
    console.print(f"{STATIC}, cut after 1, 2, ... frames: {', '.join(curve)}")
    for what, worse in outcome["worse"].items():
        best = outcome["best"][what]
        console.print(f"{what}, at best {best}: {'worse' if worse else 'not worse'} than {chosen}")
    console.print("accepted" if outcome["accepted"] else "not accepted: quote no saving")
