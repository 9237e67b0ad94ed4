"""What a run was: of which network, on which images, computed how. Comparisons of runs check it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

DIGITS = 16
"""Hexadecimal digits of a SHA-256 that are kept: enough that no two of a million images share them."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a run was, as far as the record says it; None where it does not.

    Parameters
    ----------
    images : tuple of str, optional
        Hash of the pixels of each image, in order, as `hash_images` makes them.
    labels : tuple of int, optional
        Their labels; also None where the data have none.
    classes : int, optional
        Classes that the network tells apart.
    network : str, optional
        Hash of the network with its weights, whatever schedule its halting decides by.
    arithmetic : str, optional
        `float64`, `float32`, or integers and the bits of their weights.
    processes : str, optional
        `own` where a node of the network is a layer of the record, `stock` where Lava's stock processes are.
    gating : str, optional
        What became of halted tokens.
    chip : str, optional
        Profile that the network was placed for; also None without a mapping.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    images: tuple[str, ...] | None = None
    labels: tuple[int, ...] | None = None
    classes: int | None = None
    network: str | None = None
    arithmetic: str | None = None
    processes: str | None = None
    gating: str | None = None
    chip: str | None = None

    def restrict(self, chosen: Any) -> Origin:
        """Keep some of the images, by a numpy index of the image axis."""
        return replace(self, images=_chosen(self.images, chosen), labels=_chosen(self.labels, chosen))

    @staticmethod
    def join(origins: Sequence[Origin]) -> Origin:
        """Give the origin of runs joined image after image, which agree where they say something.

        What one of them does not say is not known of all.
        """
        first = origins[0]
        same = {
            name: getattr(first, name)
            for name in ("classes", "network", "arithmetic", "processes", "gating", "chip")
            if all(getattr(origin, name) == getattr(first, name) for origin in origins)
        }
        return Origin(
            images=_joined(origins, lambda origin: origin.images),
            labels=_joined(origins, lambda origin: origin.labels),
            **same,
        )


UNKNOWN = Origin()
"""Of a record that says nothing of its run."""


def hash_images(images: npt.NDArray[Any]) -> tuple[str, ...]:
    """Hash the pixels of each image, `DIGITS` hexadecimal digits each.

    It is the SHA-256 of its shape as text, "1x28x28", a line feed, and its pixels as little-endian float32
    from 0 to 1: the same whether a file has them as uint8 in 0..255 or as floats.

    Parameters
    ----------
    images : uint8 or float (images, ...)
    """
    shape = "x".join(str(size) for size in images.shape[1:]).encode() + b"\n"
    scale = 255.0 if images.dtype == np.uint8 else 1.0
    return tuple(
        hashlib.sha256(shape + (image / scale + 0.0).astype("<f4").tobytes()).hexdigest()[:DIGITS]
        for image in images  # one by one: floats of all would take much memory. Adding 0 makes -0 the same.
    )


def _chosen(values: tuple[Any, ...] | None, chosen: Any) -> tuple[Any, ...] | None:
    return None if values is None else tuple(np.asarray(values)[chosen].tolist())


def _joined(
    origins: Sequence[Origin], values_of: Callable[[Origin], tuple[Any, ...] | None]
) -> tuple[Any, ...] | None:
    known = [values for values in map(values_of, origins) if values is not None]
    return tuple(value for values in known for value in values) if len(known) == len(origins) else None
