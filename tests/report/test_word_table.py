"""Tables at the width of a terminal."""

from __future__ import annotations

import pytest
from rich.console import Console

from stas_neuro.report.word_table import WordTable

ROWS = (
    ("blocks.0.attn_lif", "12", "a neuron for each pair of spikes that can coincide, at a high cost"),
    ("halting.0.score and 4 more", "-", "compile with --accumulate off"),
)


def shown(width: int) -> str:
    table = WordTable("layer", "used", "remedy")
    for row in ROWS:
        table.add_row(*row)
    console = Console(width=width)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


@pytest.mark.parametrize("width", [40, 60, 80])
def test_words_are_not_split(width: int) -> None:
    text = shown(width)
    assert max(map(len, text.splitlines())) <= width
    assert all(word in text.split() for row in ROWS for cell in row for word in cell.split())


def test_a_wide_terminal_has_one_line_for_each_row() -> None:
    assert len(shown(120).splitlines()) == 2 + len(ROWS)


def test_nothing_is_lost_where_no_word_fits() -> None:
    letters = "".join(shown(16).split())
    assert all(letters.count(letter) >= "".join(ROWS[0]).count(letter) for letter in "blpz")
