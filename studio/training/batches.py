"""Which picture, in which orientation, with which caption, at each step: functions of the seed and the step alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from studio.datasets.splits import put_aside

NO_CAPTION = -1
CLASS_CAPTION = -2
_ORDER, _CHOICE, _NOISE, _TURN, _DROPOUT = 1, 2, 3, 6, 7


@dataclass(frozen=True)
class Draw:
    """One picture of a batch; `caption` is an index, or NO_CAPTION or CLASS_CAPTION."""

    picture: int
    orientation: int
    caption: int


def draws(
    seed: int,
    step: int,
    count: int,
    captions: Sequence[int],
    orientations: int,
    caption_dropout: float,
    class_captions: float,
    buckets: Sequence[Sequence[int]] = (),
) -> list[Draw]:
    """The pictures of one optimiser step; every picture comes once in each epoch.

    Args:
        count: pictures in the step.
        captions: how many captions each picture has.
        orientations: how many flips and rotations there are to choose from.
        buckets: pictures that have one shape, where a step is to be of one shape; see `bucket_of`.
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, _CHOICE], counter=[0, 0, 0, step]))
    chances = rng.random((count, 3))
    result = []
    bucket, batch = bucket_of(seed, step, count, buckets) if buckets else (0, step)
    pictures = buckets[bucket] if buckets else range(len(captions))
    for row in range(count):
        epoch, place = divmod(batch * count + row, len(pictures))
        picture = pictures[int(_order(seed, epoch, len(pictures), bucket)[place])]
        result.append(
            Draw(
                picture,
                int(chances[row, 0] * orientations),
                _caption(chances[row, 1], chances[row, 2], captions[picture], caption_dropout, class_captions),
            )
        )
    return result


def _caption(kind: float, which: float, count: int, dropout: float, class_share: float) -> int:
    if kind < dropout or count == 0:
        return NO_CAPTION
    if kind < dropout + (1 - dropout) * class_share:
        return CLASS_CAPTION
    return int(which * count)


def bucket_of(seed: int, step: int, count: int, buckets: Sequence[Sequence[int]]) -> tuple[int, int]:
    """Which bucket a step draws from, and the how manieth of that bucket's batches it is.

    In each epoch every bucket comes as often as it has batches, the last of which is filled up with pictures that then
    come again a little sooner: none is left out, however few are of its shape.
    """
    batches = [-(-len(bucket) // count) for bucket in buckets]
    epoch, place = divmod(step, sum(batches))
    order = np.repeat(np.arange(len(buckets)), batches)[_order(seed, epoch, sum(batches), len(buckets))]
    bucket = int(order[place])
    return bucket, epoch * batches[bucket] + int((order[:place] == bucket).sum())


def turns_by_a_quarter(seed: int, step: int, share: float) -> bool:
    """Whether the pictures of a step, which are to stay of one shape, are all turned by a quarter or none."""
    return bool(np.random.Generator(np.random.Philox(key=[seed, _TURN], counter=[0, 0, 0, step])).random() < share)


@lru_cache(maxsize=32)
def _order(seed: int, epoch: int, count: int, bucket: int = 0) -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(key=[seed, _ORDER], counter=[0, 0, bucket, epoch]))
    return rng.permutation(count)


def noise_generator(seed: int, step: int) -> torch.Generator:
    """The source of a step's noise and timesteps, always on the CPU so that devices agree."""
    rng = np.random.Generator(np.random.Philox(key=[seed, _NOISE], counter=[0, 0, 0, step]))
    return torch.Generator().manual_seed(int(rng.integers(2**63)))


def dropout_seed(seed: int, step: int, row: int) -> int:
    """The seed of what a forward pass leaves out at random; passes are told apart by their first row."""
    rng = np.random.Generator(np.random.Philox(key=[seed, _DROPOUT], counter=[0, 0, row, step]))
    return int(rng.integers(2**63))


def split_for_validation(count: int, wanted: int, seed: int) -> tuple[list[int], list[int]]:
    """Indices (to train on, to measure on) where a data set has no part put aside: at most a tenth is measured on."""
    order = _order(seed, -1 % 2**63, count)
    measured = put_aside(count, wanted)
    return sorted(map(int, order[measured:])), sorted(map(int, order[:measured]))
