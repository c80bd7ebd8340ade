"""Which picture, in which orientation, with which caption, at each step: functions of the seed and the step alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

NO_CAPTION = -1
CLASS_CAPTION = -2
_ORDER, _CHOICE, _NOISE = 1, 2, 3


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
) -> list[Draw]:
    """The pictures of one optimiser step; every picture comes once in each epoch.

    Args:
        count: pictures in the step.
        captions: how many captions each picture has.
        orientations: how many flips and rotations there are to choose from.
    """
    rng = np.random.Generator(np.random.Philox(key=[seed, _CHOICE], counter=[0, 0, 0, step]))
    chances = rng.random((count, 3))
    result = []
    for row in range(count):
        epoch, place = divmod(step * count + row, len(captions))
        picture = int(_order(seed, epoch, len(captions))[place])
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


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    rng = np.random.Generator(np.random.Philox(key=[seed, _ORDER], counter=[0, 0, 0, epoch]))
    return rng.permutation(count)


def noise_generator(seed: int, step: int, micro: int = 0) -> torch.Generator:
    """The source of noise and timesteps of one forward pass, always on the CPU so that devices agree."""
    rng = np.random.Generator(np.random.Philox(key=[seed, _NOISE], counter=[0, 0, micro, step]))
    return torch.Generator().manual_seed(int(rng.integers(2**63)))


def split_for_validation(count: int, wanted: int, seed: int) -> tuple[list[int], list[int]]:
    """Indices (to train on, to measure on) where a data set has no part put aside: at most a tenth is measured on."""
    order = _order(seed, -1 % 2**63, count)
    measured = min(wanted, max(count // 10, 1)) if count > 1 else 0
    return sorted(map(int, order[measured:])), sorted(map(int, order[:measured]))
