"""A table that splits no word where the terminal is wide enough for its longest words."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

_GAP = 2
"""Characters between two columns."""


class WordTable(Table):
    """A table with a line below its headings, whose widest columns are wrapped first, between words.

    rich itself would also split words, such as the names of layers. Words that are too wide even so are
    split, never truncated.
    """

    def __init__(self, *headings: str) -> None:
        super().__init__(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        for heading in headings:
            self.add_column(heading, overflow="fold")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Choose the widths of columns for the width of the console."""
        self._fit(options.max_width - _GAP * (len(self.columns) - 1))
        yield from super().__rich_console__(console, options)

    def _fit(self, available: int) -> None:
        texts = [[_plain(cell) for cell in (column.header, *column.cells)] for column in self.columns]
        whole = [_longest(line for text in column for line in text.splitlines()) for column in texts]
        least = [_longest(word for text in column for word in text.split()) for column in texts]
        if sum(whole) <= available or sum(least) > available:
            return
        while sum(whole) > available:
            can_shrink = (at for at in range(len(whole)) if whole[at] > least[at])
            whole[max(can_shrink, key=whole.__getitem__)] -= 1
        for column, width in zip(self.columns, whole, strict=True):
            column.width = width


def _longest(parts: Iterable[str]) -> int:
    return max(map(cell_len, parts), default=0)


def _plain(cell: object) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell)
