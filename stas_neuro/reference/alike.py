"""Rows of a table that are equal."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def equal_rows(table: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the first of each class of equal rows, (classes,), and the class of each row, (rows,).

    Rows are compared byte by byte: `table` is (rows, columns), with at least one column.
    """
    rows = np.ascontiguousarray(table)
    names = rows.view(np.dtype((np.void, rows.strides[0]))).ravel()
    _, first, of_row = np.unique(names, return_index=True, return_inverse=True)
    return first, of_row
