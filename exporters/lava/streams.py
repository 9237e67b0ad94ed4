"""Standard streams for a program that was started with some of them closed."""

from __future__ import annotations

import os
import sys


def open_standard_streams() -> None:
    """Open the streams that are closed on the null device, as Python has None for them.

    A program may then print, flush and ask for a terminal as always, and no file that it writes gets the
    number of a standard stream, at which libraries print.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)  # never closed, as those that Python opens
            setattr(sys, name, open(null, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
