"""Edges of the graph."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Edge:
    """Output port `src:src_port` feeds input port `dst:dst_port`.

    `delay` 1 brings the value of the previous model step (`types.neutral` before the first).
    """

    src: str
    src_port: str
    dst: str
    dst_port: str
    delay: int = 0

    def __str__(self) -> str:
        return f"{self.src}:{self.src_port} -> {self.dst}:{self.dst_port}"
