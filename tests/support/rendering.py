"""Text of what is printed."""

from __future__ import annotations

from rich.console import Console, RenderableType


def shown(renderable: RenderableType, width: int = 200) -> str:
    console = Console(width=width, force_terminal=False)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()
