"""Origin of a run: its network, images, and how it was computed. Comparisons of runs check it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

DIGITS = 16
"""Hexadecimal digits kept of a SHA-256: enough for a million images without a collision."""
_AT_ONCE = 1 << 17
"""Pixels that are converted at once to be hashed, or those of one image, to save memory."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Origin of a run; fields that the record does not specify are None.

    Parameters
    ----------
    images : tuple of str, optional
        Hash of the pixels of each image, in order, from `hash_images`.
    labels : tuple of int, optional
        Labels of the images; also None where the data have none.
    classes : int, optional
        Number of classes of the network.
    network : str, optional
        Hash of the network with its weights; it does not depend on the schedule.
    arithmetic : str, optional
        `float64`, `float32`, or integers with their weight bits.
    processes : str, optional
        `own` if each layer of the record is a node of the network, `stock` if it is one of Lava's stock
        processes.
    gating : str, optional
        Gating mode of the run.
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
        """Return the origin of some of the images, given by a numpy index of the image axis."""
        return replace(self, images=_chosen(self.images, chosen), labels=_chosen(self.labels, chosen))

    @staticmethod
    def join(origins: Sequence[Origin]) -> Origin:
        """Return the origin of runs joined along the image axis; their known facts must agree.

        A fact that one of them lacks is None in the result.
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
"""Origin of a record without any facts about its run."""


class ImageArray(Protocol):
    """Images of one shape and type: an array, or images that are read as they are taken."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(images, ...)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a pixel."""

    def __len__(self) -> int:
        """Count the images."""

    def __getitem__(self, part: slice) -> npt.NDArray[Any]:
        """Return some of the images."""


def hash_images(images: ImageArray) -> tuple[str, ...]:
    """Hash the pixels of each image, `DIGITS` hexadecimal digits each.

    The hash is the SHA-256 of the shape as text, such as "1x28x28", a line feed, and the pixels as
    little-endian float32 from 0 to 1. It is the same for pixels stored as uint8 in 0..255 and as floats.

    Parameters
    ----------
    images : uint8 or float (images, ...)
        uint8 in 0..255, or float in 0..1.

    Returns
    -------
    tuple of str (images,)
    """
    shape = "x".join(str(size) for size in images.shape[1:]).encode() + b"\n"
    begun = hashlib.sha256(shape)
    hashes = []
    some = max(1, _AT_ONCE // max(1, math.prod(images.shape[1:])))
    for start in range(0, len(images), some):
        pixels = _fractions(images[start : start + some])
        for image in pixels.reshape(len(pixels), -1):
            of_image = begun.copy()
            of_image.update(image.data)
            hashes.append(of_image.hexdigest()[:DIGITS])
    return tuple(hashes)


def _fractions(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return pixels as little-endian float32 from 0 to 1, and -0 as 0."""
    if pixels.dtype == np.uint8:
        # The same as in float64, rounded, for each of the 256.
        return np.asarray(pixels.astype("<f4", order="C") / np.float32(255))
    return (pixels + 0.0).astype("<f4", order="C")


def _chosen(values: tuple[Any, ...] | None, chosen: Any) -> tuple[Any, ...] | None:
    return None if values is None else tuple(np.asarray(values)[chosen].tolist())


def _joined(
    origins: Sequence[Origin], values_of: Callable[[Origin], tuple[Any, ...] | None]
) -> tuple[Any, ...] | None:
    known = [values for values in map(values_of, origins) if values is not None]
    return tuple(value for values in known for value in values) if len(known) == len(origins) else None
