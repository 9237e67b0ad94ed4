"""Loops compiled by numba. Each is one operation over rows of values: (rows, features), one row a position.

Values are whole numbers: spikes and small numbers uint8, others held exactly by float32 or float64. A row of
a map is one of its places, a row of tokens is a token; images follow one another. Scalars have the type of
the state that they act on, which keeps loops in that precision.

Each is compiled once for the types that it is called with, and kept on disk. Inner loops run over slices:
indices that could be negative would keep them from being vectorised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stas_neuro.fast.prefetch import LINE, prefetch

Array = NDArray[Any]
_SOON = 8
"""How many rows ahead membranes are prefetched: stepping so many takes about as long as loading them."""
_HALF = 0xFFFF
"""Largest number in half of 32 bits."""
_FIRED = np.int32((1 << 16) + 1)
"""What a spike counts: one in the upper half, and one in the lower as an active neuron."""


def _kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function when it is first called."""
    try:
        compiled: Callable[..., Any] = njit(cache=True, nogil=True, error_model="numpy")(function)
    except RuntimeError:  # no directory to keep it in can be written to
        compiled = njit(nogil=True, error_model="numpy")(function)
    return compiled


@_kernel
def _gather(counted: Array, bounds: Array, active: Array, fired: Array) -> None:
    """Add what was counted by feature to segments, and begin at 0 again.

    A count has the spikes in its upper half. Loops over all features are vectorised; those over segments,
    which may be short, would not be. A row may have the features of several positions, one after another.
    """
    positions = len(counted) // bounds[-1]
    while positions > 1:
        half = (positions + 1) // 2
        others = counted[half * bounds[-1] : positions * bounds[-1]]
        for o in range(len(others)):
            counted[o] += others[o]
        positions = half
    for s in range(len(bounds) - 1):
        some, many = np.int32(0), np.int32(0)
        for o in range(np.uint64(bounds[s]), np.uint64(bounds[s + 1])):
            some += counted[o] & _HALF
            many += (counted[o] >> 16) & _HALF
        active[s] += some
        fired[s] += many
    counted[:] = 0


@_kernel
def fire(  # noqa: PLR0913
    sums: Array,
    scale: Array,
    bias: Array,
    unit: float,
    keep: float,
    threshold: float,
    largest: float,
    share: float,
    amount: float,
    v: Array,
    where: Array,
    missed: Array,
    to: Array,
    bounds: Array,
    spikes: Array,
    active: Array,
    fired: Array,
) -> None:
    """Step the neurons of rows; count the active ones and spikes of row r and segment s at [to[r], s].

    A row may be that of several positions, one after another, which are counted alike: then `to` is of each.

    Their input is floor(sums * scale) * unit + bias; `bias` is (1, features) or (positions, features), for
    rows of whole images. The membrane v of row where[r] becomes trunc(v * keep) + input, at most `largest` in
    magnitude, after one more trunc(v * keep) for each step that the row has missed. Where missed[r] < 0, it
    was 0. If it is above the threshold it fires, and becomes v * share - amount. Segment s is features
    bounds[s] to bounds[s + 1].
    """
    of = 0
    counted = np.zeros(v.shape[1], np.int32)
    most, since, of_row = _HALF * bounds[-1] // v.shape[1], 0, len(to) // len(spikes)
    membranes_at, size = v.ctypes.data, v.strides[0]
    for r in range(len(spikes)):
        soon = membranes_at + where[min(r + _SOON, len(spikes) - 1)] * size
        for byte in range(0, size, LINE):
            prefetch(soon + byte)
        summed, biases, membranes, sent = sums[r], bias[of], v[where[r]], spikes[r]
        left = v.dtype.type(0) if missed[r] < 0 else keep
        for _ in range(missed[r]):
            for o in range(len(membranes)):
                membranes[o] = np.trunc(membranes[o] * keep)
        for o in range(len(membranes)):
            x = np.floor(v.dtype.type(summed[o]) * scale[o]) * unit + biases[o]
            u = min(max(np.trunc(membranes[o] * left) + x, -largest), largest)
            fires = u > threshold
            membranes[o] = u * share - amount if fires else u
            sent[o] = fires
            counted[o] += _FIRED if fires else np.int32(x != v.dtype.type(0))
        since += 1
        cell = to[r * of_row]
        if r + 1 == len(spikes) or to[(r + 1) * of_row] != cell or since == most:
            _gather(counted, bounds, active[cell], fired[cell])
            since = 0
        of += 1
        if of == len(bias):
            of = 0


@_kernel
def fire_once(  # noqa: PLR0913
    sums: Array,
    fires_from: Array,
    rests_from: Array,
    rests_to: Array,
    to: Array,
    bounds: Array,
    spikes: Array,
    active: Array,
    fired: Array,
) -> None:
    """Step neurons at rest, of which nothing is kept; count as `fire` does.

    They fire if the sum is at least `fires_from`, and are not active if it is at least `rests_from` and less
    than `rests_to`, each (1, features) or (positions, features), for rows of whole images.
    """
    of = 0
    for r in range(len(spikes)):
        summed, sent = sums[r], spikes[r]
        least, low, high = fires_from[of], rests_from[of], rests_to[of]
        for s in range(len(bounds) - 1):
            some, many = np.int32(0), np.int32(0)
            for o in range(np.uint64(bounds[s]), np.uint64(bounds[s + 1])):
                x = least.dtype.type(summed[o])
                fires = x >= least[o]
                sent[o] = fires
                many += np.int32(fires)
                some += np.int32(fires | (x < low[o]) | (x >= high[o]))
            active[to[r], s] += some
            fired[to[r], s] += many
        of += 1
        if of == len(fires_from):
            of = 0


@_kernel
def count(values: Array, to: Array, nonzero: Array, total: Array) -> None:
    """Count the values of row r that are not 0, and sum all of them, at [to[r]]."""
    for r in range(len(values)):
        some, all_of = np.int32(0), np.int64(0)
        for o in range(values.shape[1]):
            some += np.int32(values[r, o] != 0)
            all_of += np.int64(values[r, o])
        nonzero[to[r]] += some
        total[to[r]] += all_of


@_kernel
def spread(tallies: Array, targets: Array, sources: Array, weights: Array, out: Array) -> None:
    """Add weights[e] times row sources[e] of the tallies to row targets[e] of out, for each entry e."""
    for e in range(len(targets)):
        tally, target, weight = tallies[sources[e]], out[targets[e]], weights[e]
        for image in range(len(tally)):
            target[image] += weight * tally[image]


@_kernel
def pack(values: Array, index: Array, where: Array, out: Array) -> None:
    """Gather rows: out[r] is row index[where[r]] of the values, or 0 where the index is below 0."""
    for r in range(len(where)):
        at, row = index[where[r]], out[r]
        if at < 0:
            row[:] = 0
        else:
            taken = values[at]
            for o in range(len(row)):
                row[o] = taken[o]


@_kernel
def attend(  # noqa: PLR0913
    q: Array,
    k: Array,
    v: Array,
    starts: Array,
    y: Array,
    to: Array,
    segments: Array,
    columns: Array,
    queries: Array,
) -> None:
    """Multiply q (k^T v), spikes (rows, heads, channels), for each image: rows starts[b] to starts[b + 1].

    y (rows, heads, channels) are the products. Counted are the coincidences that each column of k^T v is the
    sum of, those of feature o of image b at columns[b, segments[o]], and the spikes of row r of q at
    queries[to[r]], (heads,).
    """
    heads, size = q.shape[1], q.shape[2]
    kv = np.empty((size, size), y.dtype)
    values = np.empty(size, y.dtype)
    spiked = np.empty(size + 1, np.int64)
    summed = np.empty(size, np.int32)
    for b in range(len(starts) - 1):
        for h in range(heads):
            kv[:] = 0
            summed[:] = 0
            for r in range(starts[b], starts[b + 1]):
                keys = _spiked(k[r, h], spiked)
                if keys:
                    value, times = v[r, h], np.int32(keys)
                    for j in range(size):
                        values[j] = value[j]
                        summed[j] += times * np.int32(value[j])
                    for i in spiked[:keys]:
                        products = kv[i]
                        for j in range(size):
                            products[j] += values[j]
            for j in range(size):
                columns[b, segments[h * size + j]] += summed[j]
            for r in range(starts[b], starts[b + 1]):
                out = y[r, h]
                out[:] = 0
                spikes = _spiked(q[r, h], spiked)
                for i in spiked[:spikes]:
                    products = kv[i]
                    for j in range(size):
                        out[j] += products[j]
                queries[to[r], h] += spikes


@_kernel
def _spiked(spikes: Array, at: Array) -> int:
    """List where spikes are in `at`, which has room for one more; count them.

    Without a branch, which a processor could not predict.
    """
    count = 0
    for i in range(len(spikes)):
        at[count] = i
        count += spikes[i]
    return count


@_kernel
def windows(x: Array, channels: int, sides: Array, out: Array) -> None:
    """Copy the windows of maps (images, H, W * C) to (images, H', W', kernel rows, kernel columns * C).

    `sides` is (kernel, stride, padding, dilation), each of rows and columns; columns are not dilated. Outside
    a map are zeros.
    """
    images, height, length = x.shape
    size = out.shape[4]
    nothing = x.dtype.type(0)
    for b in range(images):
        for i in range(out.shape[1]):
            for row in range(out.shape[3]):
                y = i * sides[1, 0] + row * sides[3, 0] - sides[2, 0]
                inside = 0 <= y < height
                line = x[b, y if inside else 0]
                for j in range(out.shape[2]):
                    start = (j * sides[1, 1] - sides[2, 1]) * channels
                    window = out[b, i, j, row]
                    if inside and start >= 0 and start + size <= length:
                        for c in range(size):
                            window[c] = line[np.uint64(start + c)]
                    else:
                        for c in range(size):
                            at = start + c
                            window[c] = line[np.uint64(at)] if inside and 0 <= at < length else nothing


@_kernel
def pool(x: Array, sides: Array, out: Array) -> None:
    """Take the largest value, at least 0, of each window of maps (images, H, W * C): out (images, H', W', C).

    `sides` are as in `windows`.
    """
    images, height, length = x.shape
    channels = out.shape[3]
    line = np.empty(length, x.dtype)
    for b in range(images):
        for i in range(out.shape[1]):
            line[:] = 0
            for row in range(sides[0, 0]):
                y = i * sides[1, 0] + row * sides[3, 0] - sides[2, 0]
                if 0 <= y < height:
                    taken = x[b, y]
                    for c in range(length):
                        line[c] = max(line[c], taken[c])
            for j in range(out.shape[2]):
                largest = out[b, i, j]
                largest[:] = 0
                for column in range(sides[0, 1]):
                    at = (j * sides[1, 1] + column * sides[3, 1] - sides[2, 1]) * channels
                    if 0 <= at < length:
                        place = line[at : at + channels]
                        for c in range(len(place)):
                            largest[c] = max(largest[c], place[c])


@_kernel
def visit(alive: Array, absent: Array, where: Array, missed: Array, starts: Array, index: Array) -> int:
    """List the rows of the tokens that are alive (images, positions), and return their number.

    `where`, `missed`, `starts` and `index` are as in `Live`, with room for all rows. `absent` has the steps
    that each token has missed (images * positions), -1 before it first visits, and counts on.
    """
    # Without a branch, which a processor could not predict.
    rows, row = 0, np.uint64(0)
    for b in range(alive.shape[0]):
        starts[b] = rows
        of_image = alive[b]
        for n in range(np.uint64(alive.shape[1])):
            lives = of_image[n] != 0
            where[np.uint64(rows)] = row
            missed[np.uint64(rows)] = absent[row]
            index[row] = rows if lives else -1
            absent[row] = 0 if lives else absent[row] + (absent[row] >= 0)
            rows += lives
            row += np.uint64(1)
    starts[len(alive)] = rows
    return rows


@_kernel
def score(
    z: Array, starts: Array, where: Array, group: Array, scale: float, low: int, table: Array, h: Array
) -> None:
    """Look up h (images, positions): table[floor(sum * scale) - low], beyond an end of the table its end.

    A sum is that of the first features of a group's rows of z; the group of position n is group[n], and the
    rows of image b are starts[b] to starts[b + 1].
    """
    sums = np.empty(len(group), np.float64)
    for b in range(len(h)):
        sums[:] = 0
        for r in range(starts[b], starts[b + 1]):
            sums[group[where[r] - b * len(group)]] += z[r, 0]
        for n in range(len(group)):
            place = np.floor(sums[group[n]] * scale) - low
            h[b, n] = table[int(min(max(place, 0.0), len(table) - 1.0))]


@_kernel
def halt(  # noqa: PLR0913
    h: Array,
    alive: Array,
    total: Array,
    limit: float,
    one: float,
    forced: bool,
    still_alive: Array,
    next_total: Array,
    p: Array,
) -> None:
    """Decide whether tokens halt: where the sum of scores reaches the limit, or if they are forced to."""
    for n in range(len(h)):
        halts = forced | (total[n] + h[n] >= limit)
        still_alive[n] = 0 if halts else alive[n]
        next_total[n] = total[n] + alive[n] * h[n]
        p[n] = alive[n] * (one - total[n] if halts else h[n])


@_kernel
def weigh(
    z: Array, where: Array, weights: Array, shift: float, limit: float, out: Array, weighed: Array
) -> None:
    """Add weight * clip(floor(z * shift), -limit, limit) of each row to its image: out (images, features).

    `weights` is (images, positions); those that are not 0 are counted by image in `weighed`.
    """
    images, positions = weights.shape
    for b in range(images):
        for n in range(positions):
            weighed[b] += weights[b, n] != 0
    image = 0
    for r in range(len(where)):
        while where[r] >= (image + 1) * positions:  # rows ascend
            image += 1
        p = weights[image, where[r] - image * positions]
        if p != 0:
            read, sums = z[r], out[image]
            for o in range(len(sums)):
                sums[o] += p * min(max(np.floor(read[o] * shift), -limit), limit)
