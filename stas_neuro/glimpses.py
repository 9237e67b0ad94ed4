"""Garments of Fashion-MNIST as a small simulated event sensor glimpses them, one after the other.

A pixel of an event sensor sends an event when the brightness that it sees changes (Lichtsteiner, Posch and
Delbruck, doi 10.1109/JSSC.2007.914337). Still images become events when the sensor moves by a little while it
looks (Orchard et al., doi 10.3389/fnins.2015.00437). Here the events are simulated, without those of the jump
from one garment to the other, and the scenes and their times are our choice.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stas_neuro.errors import InputError
from stas_neuro.sequences import pairs_in_time

Frames = NDArray[np.uint8]
Labels = NDArray[np.int64]

SIDE = 28
"""Pixels along a side of an image."""
BINS, SENSOR = 8, 4
"""Frames of a scene, and pixels along a side of the sensor, which see the whole image."""
MOVEMENT = 3
"""By how many pixels of the image the sensor moves down and to the right while it looks."""
CONTRAST = 17
"""Change of brightness, of 255, for which a pixel sends an event, and the value of an event in a frame."""
KINDS = ("Trouser", "Bag", "Sneaker")
GLIMPSE_CLASSES = tuple(f"{first} then {second}" for first in KINDS for second in KINDS if first != second)
SCENES = {"train": 2400, "test": 1000}
"""Number of scenes."""
_SEEDS = {"train": 3, "test": 4}


def events(images: Frames) -> Frames:
    """Simulate what the sensor sends while it looks at images (n, 1, SIDE, SIDE), uint8.

    Returns uint8 (n, 2, SENSOR, SENSOR): events times `CONTRAST`, of rising brightness (channel 0) and of
    falling. It is black around an image.

    Raises
    ------
    InputError
        For images of another size or type.
    """
    if images.shape[1:] != (1, SIDE, SIDE) or images.dtype != np.uint8:
        what = f"images are {images.dtype} of shape {images.shape}, and glimpses are of uint8 {SIDE}x{SIDE}"
        raise InputError(what, "use those of Fashion-MNIST")
    wide = np.pad(images[:, 0].astype(np.int64), ((0, 0), (0, MOVEMENT), (0, MOVEMENT)))
    before, after = (
        wide[:, at : at + SIDE, at : at + SIDE]
        .reshape(-1, SENSOR, SIDE // SENSOR, SENSOR, SIDE // SENSOR)
        .mean((2, 4))
        for at in (0, MOVEMENT)
    )
    change = np.stack([after - before, before - after], 1).clip(0)
    return (change // CONTRAST * CONTRAST).astype(np.uint8)


def glimpses(images: Frames, kinds: NDArray[np.str_], split: str) -> tuple[Frames, Labels, tuple[str, ...]]:
    """Generate scenes: the sensor looks at a garment in one bin, and at one of another kind in a later one.

    Times are those of `order` (`sequences.pairs_in_time`); all other bins are blank. Both garments are seen
    by the same pixels, so all frames together show two garments, but not their order.

    Parameters
    ----------
    images : uint8 (n, 1, SIDE, SIDE)
        Garments to draw from; of each kind at least one.
    kinds : str (n,)
        What they are; those that are not among `KINDS` are not used.
    split : str
        ``train`` or ``test``.

    Returns
    -------
    frames : uint8 (scenes, BINS, 2, SENSOR, SENSOR)
    labels : int64 (scenes,), indices into the classes
    classes : names of the ordered pairs

    Raises
    ------
    InputError
        If a kind has no images, or images have another size or type.
    """
    # The numbers of RandomState are frozen: those of numpy's newer generators may change with its version.
    random, count = np.random.RandomState(_SEEDS[split]), SCENES[split]
    pairs = pairs_in_time(random, count, len(KINDS), BINS)
    garments = [np.flatnonzero(kinds == kind) for kind in KINDS]
    if missing := [kind for kind, found in zip(KINDS, garments, strict=True) if not len(found)]:
        raise InputError(f"there are no images of {', '.join(missing)}", "use those of Fashion-MNIST")
    frames = np.zeros((count, BINS, 2, SENSOR, SENSOR), np.uint8)
    for kind, time in ((pairs.first, pairs.start), (pairs.second, pairs.start + pairs.gap)):
        share = random.uniform(size=count)
        drawn = [garments[k][int(part * len(garments[k]))] for k, part in zip(kind, share, strict=True)]
        frames[np.arange(count), time] = events(images[drawn])
    return frames, pairs.labels, GLIMPSE_CLASSES
