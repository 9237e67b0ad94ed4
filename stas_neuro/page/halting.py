"""Section on where and when tokens halt."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from stas_neuro.api import has_images
from stas_neuro.data import LabelledImages
from stas_neuro.errors import InputError
from stas_neuro.page.content import Section
from stas_neuro.page.runs import Run
from stas_neuro.report.charts import exits_chart, halting_chart


def halting_section(runs: Sequence[Run], data: LabelledImages | None, chosen: Sequence[int]) -> Section:
    """Show visits by token and image, and maps of them over the chosen images.

    Raises
    ------
    InputError
        When an image that was chosen is not in the runs, or the data are not those of the runs.
    """
    section = Section("halting", "Where and when tokens halt")
    halting = [run for run in runs if run.saves_work and run.activity.visits is not None]
    if not halting:
        section.missing.append("no run has visits that halting spared")
        return section
    visits = {run.label: np.asarray(run.activity.visits) for run in halting}
    section.draw("exits-chart", lambda: exits_chart(visits))
    if data is None:
        section.missing.append("maps over images need the images of the runs; give them with --data")
        return section
    picked = _images(runs[0], data, chosen)
    for number, run in enumerate(halting):
        captions = _captions(run, data, picked)
        rows = np.searchsorted(run.activity.numbers, picked)
        draw = partial(halting_chart, data.images[picked], visits[run.label][rows], captions, run=run.label)
        section.draw(f"maps-chart-{number}", draw)
    return section


def _images(run: Run, data: LabelledImages, chosen: Sequence[int]) -> list[int]:
    """Return the numbers of the images to draw; those of the data must be those of the run."""
    count = run.activity.all_images
    if outside := [number for number in chosen if not 0 <= number < count]:
        raise InputError(
            f"there is no image {outside[0]} in {run.label}", f"give numbers from 0 to {count - 1}"
        )
    picked = list(dict.fromkeys(chosen))
    if unknown := sorted({*picked}.difference(run.activity.numbers.tolist())):
        what = f"{run.label} has no visits of image {unknown[0]}: it kept those of a sample"
        raise InputError(what, "choose others, or run it again with --per-image")
    known = run.activity.origin.images
    if len(data) < count or (known is not None and not has_images(data, known, np.array(picked))):
        raise InputError(
            f"the first {count} images of {data.source} are not those of {run.label}",
            "give the data of the run with --data, in the same order",
        )
    return picked


def _captions(run: Run, data: LabelledImages, picked: Sequence[int]) -> list[str]:
    """Return the predicted class of images, and whether it is right, by name where the data have names.

    A run counts classes as its network does, data as their file does: labels show which is which.
    """
    labels = run.activity.origin.labels
    names: dict[int, str] = {}
    if labels is not None and data.labels is not None and data.classes:
        pairs = zip(labels, data.labels[: len(labels)].tolist(), strict=True)
        names = {own: data.classes[theirs] for own, theirs in pairs}

    def caption(number: int) -> str:
        if run.predictions is None:
            return f"image {number}"
        predicted = int(run.predictions[number])
        words = f"{number}: {names.get(predicted, str(predicted))}"
        if labels is None:
            return words
        right = predicted == labels[number]
        return f"{words} (right)" if right else f"{words} (is {names.get(labels[number], labels[number])})"

    return [caption(number) for number in picked]
