"""Measure accuracy and halting of the shipped models' integer programs on 10,000 Fashion-MNIST test images.

    python examples/evaluate_integers.py

Runs each halting model in float64 and as integers with 8, 6 and 4 bits, with scales chosen on 128 training
images, and models that were fine-tuned to integers (a subdirectory such as ``4bit``).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

import stas_neuro
from stas_neuro.api import accuracy
from stas_neuro.compiler.integers import SCALES_FILE, load_scales
from stas_neuro.data import LabelledImages
from stas_neuro.ir import Graph
from stas_neuro.passes import run_passes

MODELS = Path(__file__).parent / "models"
CONSOLE = Console(stderr=True)


def programs(model: Path, bits: list[int], sample: LabelledImages) -> list[tuple[str, Graph]]:
    """Return the model's network in floats, as integers, and as fine-tuned integers, with their labels."""
    folded = stas_neuro.fold(model)
    found = [("float64", folded)]
    found += [(f"{width} bits", stas_neuro.quantise(folded, sample, bits=width)) for width in bits]
    for scales in sorted(model.glob(f"*/{SCALES_FILE}")):
        chosen = load_scales(scales.parent)
        assert chosen is not None
        tuned = run_passes(stas_neuro.fold(scales.parent), [chosen])
        found.append((f"{chosen.bits} bits, fine-tuned", tuned))
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models", type=Path, nargs="+", help="checkpoint directories (default: the shipped models)"
    )
    parser.add_argument("--bits", type=int, nargs="*", default=[8, 6, 4])
    parser.add_argument("--limit", type=int, help="use only the first images")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    models = arguments.models or [MODELS / "fashion-spikformer", MODELS / "fashion-spikingformer"]
    sample = stas_neuro.load_data("fashion-mnist", "train")
    data = stas_neuro.load_data("fashion-mnist", "test").select(slice(0, arguments.limit))
    rows: list[dict[str, Any]] = []
    for model in models:
        base = None
        for name, graph in track(programs(model, arguments.bits, sample), model.name, console=CONSOLE):
            trace = stas_neuro.run(graph, data)
            base = base or trace
            rows.append(
                {
                    "model": model.name,
                    "weights": name,
                    "accuracy": accuracy(trace, data, graph.classes),
                    "token_ratio": trace.token_ratio,
                    "top1_changes": float((trace.predictions != base.predictions).mean()),
                    "visits_changed": float((trace.visits != base.visits).mean()),
                }
            )
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return
    table = Table("model", "weights", "accuracy", "token ratio", "predictions changed", "visits changed")
    for row in rows:
        values = (f"{row[key]:.4f}" for key in ("accuracy", "token_ratio", "top1_changes", "visits_changed"))
        table.add_row(row["model"], row["weights"], *values)
    Console().print(table)


if __name__ == "__main__":
    main()
