"""Windows of convolutions along one axis, found from what each output depends on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stas_neuro.ir import Array


class Fit(NamedTuple):
    """A window along one axis."""

    kernel: int
    stride: int
    padding: int


def fit_windows(depends: Array) -> list[Fit]:
    """Return windows over all inputs that outputs depend on, smaller kernels first; none if there is none.

    Of one output the first is right. Both windows of two may reach beyond a border, and others be right than
    the smallest; of more, those of the smallest kernel are alike in what outputs depend on.

    Parameters
    ----------
    depends : bool array (outputs, inputs)
        Whether an output depends on an input.
    """
    count, size = depends.shape
    places = np.flatnonzero(depends.any(axis=1))
    first = depends.argmax(axis=1)[places]
    last = size - 1 - depends[:, ::-1].argmax(axis=1)[places]
    found = []
    for stride in range(1, -(-size // max(count - 1, 1)) + 1):
        least = max([0, *(places * stride - first)])
        for padding in range(least, least + size + 1):
            reach = max([0, *(last - places * stride + padding)]) + 1
            room = size + 2 * padding - (count - 1) * stride
            kernel = max(reach, padding + 1, room - stride + 1)
            if kernel <= room:
                found.append(Fit(int(kernel), stride, int(padding)))
    found.sort()
    match count:
        case 1:
            return found[:1]
        case 2:
            return found
    return [fit for fit in found if fit.kernel == found[0].kernel]


def views(fit: Fit, size: int, count: int) -> list[list[int]]:
    """Return outputs that together see the whole kernel, and beside each others that see the same of it.

    Windows of the outputs of one list do not overlap.
    """
    starts = np.arange(count) * fit.stride - fit.padding
    taps = starts[:, None] + np.arange(fit.kernel)
    sees = (taps >= 0) & (taps < size)
    unseen = sees.any(axis=0)
    chosen = []
    while unseen.any():
        best = int((sees & unseen).sum(axis=1).argmax())
        chosen.append(_apart(fit, best, sees) if sees[best].all() else [best])
        unseen = unseen & ~sees[best]
    return chosen


def _apart(fit: Fit, first: int, sees: Array) -> list[int]:
    """Return outputs from the first on that see the whole kernel, without overlap."""
    gap = -(-fit.kernel // fit.stride)
    return [place for place in range(first, len(sees), gap) if sees[place].all()]
