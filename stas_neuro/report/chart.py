"""A waterfall chart of the causes of savings, one row for each chip and baseline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stas_neuro.energy import Comparison, Saving, Split
from stas_neuro.errors import InputError
from stas_neuro.files import check_outputs
from stas_neuro.report.png import as_png, picture_output
from stas_neuro.report.tables import si

if TYPE_CHECKING:
    from PIL.Image import Image

_INK, _PALE, _PAPER = (20, 20, 20), (200, 200, 200), (255, 255, 255)
_LEFT, _BAR, _RIGHT = 250, 620, 330  # widths in pixels of names, bars and figures
_ROW, _LANE, _TOP = 34, 4, 64
_PARTS: tuple[tuple[str, str, tuple[int, int, int], int], ...] = (
    # Okabe and Ito's colours, which colour-blind readers can distinguish; -1 for a saving, 1 for a cost.
    ("stem_saved_j", "stem", (0, 114, 178), -1),
    ("schedule_saved_j", "schedule", (204, 121, 167), -1),
    ("operations_saved_j", "operations", (0, 158, 115), -1),
    ("gating_saved_j", "gating", (86, 180, 233), -1),
    ("halting_cost_j", "cost of halting", (213, 94, 0), 1),
)


def savings_chart(result: Comparison) -> Image:
    """Draw a row for each chip and baseline with a split, from the stem at every step to halting.

    Each part begins where the previous one ends, and is drawn slightly lower. All parts are relative to the
    energy with the stem at every step. The thick line is the energy with halting, the thin one that without.

    Raises
    ------
    InputError
        When there is nothing to draw.
    """
    from PIL import Image as Images
    from PIL import ImageDraw

    rows = [(row, row.split) for row in result.rows if row.split is not None and row.split.every_step_j.value]
    if not rows:
        raise InputError("no chip could be priced both with and without halting", "give other profiles")
    scale = max(_farthest(split) for _, split in rows)
    bottom = _TOP + len(rows) * _ROW
    canvas = Images.new("RGB", (_LEFT + _BAR + _RIGHT, bottom + 50), _PAPER)
    draw = ImageDraw.Draw(canvas)
    at = 12
    for _, name, colour, _ in _PARTS:
        draw.rectangle((at, 12, at + 12, 24), fill=colour)
        draw.text((at + 18, 12), name, fill=_INK)
        at += 30 + int(draw.textlength(name)) + 18
    draw.text((12, 36), "energy per image, relative to that with the stem at every step", fill=_INK)
    apart = 0.25 if scale <= 10 else scale / 10
    for tick in range(int(scale / apart) + 1):
        x = _LEFT + tick * apart / scale * _BAR
        draw.line((x, _TOP - 6, x, bottom), fill=_PALE)
        draw.text((x - 8, bottom + 6), f"{tick * apart:.0%}", fill=_INK)
    draw.text((12, bottom + 28), f"All figures are {result.disclaimer}.", fill=_INK)
    for number, (row, split) in enumerate(rows):
        top = _TOP + number * _ROW
        whatif = any(cost is not None and cost.what_if for cost in (row.halting, row.without))
        draw.text((12, top), f"{row.profile}, what-if" if whatif else row.profile, fill=_INK)
        draw.text((12, top + 13), f"relative to {row.baseline}", fill=(110, 110, 110))
        whole, level = split.every_step_j.value, 1.0
        for lane, (field, _, colour, sign) in enumerate(_PARTS):
            following = level + sign * getattr(split, field).value / whole
            ends = sorted((_LEFT + level / scale * _BAR, _LEFT + following / scale * _BAR))
            draw.rectangle((ends[0], top + lane * _LANE, ends[1], top + (lane + 1) * _LANE), fill=colour)
            level = following
        for energy, width in ((split.without_j, 1), (split.halting_j, 4)):
            x = _LEFT + energy.value / whole / scale * _BAR
            draw.line((x, top - 4, x, top + len(_PARTS) * _LANE + 4), fill=_INK, width=width)
        draw.text((_LEFT + _BAR + 12, top + 2), _figures(row, split), fill=_INK)
    return canvas


def write_savings_chart(path: str | Path, result: Comparison, *, force: bool = False) -> None:
    """Write `savings_chart` as a PNG, completely or not at all; `force` replaces an earlier one.

    Raises
    ------
    InputError
        When the file exists, it cannot be written, or there is nothing to draw.
    """
    output = picture_output(Path(path), force=force)
    check_outputs([output])
    output.write(as_png(savings_chart(result)))


def _farthest(split: Split) -> float:
    """Return the largest level of a row, relative to its start."""
    level = reached = 1.0
    for field, _, _, sign in _PARTS:
        level += sign * getattr(split, field).value / split.every_step_j.value
        reached = max(reached, level)
    return reached


def _figures(row: Saving, split: Split) -> str:
    saving = row.energy_saving or row.dynamic_energy_saving
    text = f"{si(split.without_j.value, 'J')} to {si(split.halting_j.value, 'J')}"
    if split.of != "energy_j":
        text += " (dynamic)"
    return (
        text if saving is None else f"{text}, {saving.value:+.0%} ({saving.low:+.0%} to {saving.high:+.0%})"
    )
