"""Images that are read when they are asked for: the memory that they take is that of a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Index = NDArray[np.int64]

BLOCK = 1 << 24
"""Bytes of images that are read at once where all images are passed through."""


class Pixels(ABC):
    """Images in a file or in another place, used like an array of their shape.

    ``pixels[5]``, ``pixels[:100]`` and ``pixels[[3, 1]]`` read these images, and return an array. `chosen`
    returns some of the images without reading them. numpy reads all images: pass through them with `blocks`
    instead.

    Attributes
    ----------
    shape : tuple of int
        (n, C, H, W), or (n, T, C, H, W) for event data.
    dtype : numpy.dtype
        Of what is read.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @abstractmethod
    def read(self, index: Index) -> Array:
        """Read images by their numbers in 0..n - 1, in that order.

        Raises InputError, with the place, for images that cannot be read.
        """

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape, dtype=object))

    @property
    def nbytes(self) -> int:
        """Bytes that all images would take."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> Array:
        chosen = np.arange(len(self))[index]
        return self.read(chosen) if chosen.ndim else self.read(chosen[None])[0]

    def __iter__(self) -> Iterator[Array]:
        for block in blocks(self):
            yield from block

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return self[:] if dtype is None else self[:].astype(dtype, copy=False)


Images = Array | Pixels


@dataclass(frozen=True, eq=False)
class Chosen(Pixels):
    """Some images of others, by their numbers."""

    source: Pixels
    index: Index

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """Shape of these images."""
        return (len(self.index), *self.source.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:  # type: ignore[override]
        """Type of a value."""
        return self.source.dtype

    def read(self, index: Index) -> Array:
        """Read these of the other images."""
        return self.source.read(self.index[index])


@dataclass(frozen=True, eq=False)
class Converted(Pixels):
    """Images made from others, block by block: `convert` returns as many as it is given."""

    source: Pixels
    convert: Callable[[Array], Array]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self, index: Index) -> Array:
        """Read these images, and convert them."""
        return self.convert(self.source.read(index))


def chosen(images: Images, index: slice | Index) -> Images:
    """Return some of the images, in the order of ``index``; `Pixels` are not read."""
    if not isinstance(images, Pixels):
        return images[index]
    if isinstance(images, Chosen):
        return Chosen(images.source, images.index[index])
    return Chosen(images, np.arange(len(images))[index])


def blocks(images: Images, size: int | None = None) -> Iterator[Array]:
    """Pass through all images in arrays of ``size`` images, by default of about `BLOCK` bytes."""
    if size is None:
        each = max(1, int(np.prod(images.shape[1:], dtype=object)) * images.dtype.itemsize)
        size = max(1, BLOCK // each)
    for start in range(0, len(images), size):
        yield images[start : start + size]
