"""What a person should know of a data set before training on it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from studio.datasets.augmentation import has_direction_words
from studio.datasets.dataset import Dataset, Picture

COLOUR_SAMPLE = 500


@dataclass(frozen=True)
class Statistics:
    """Counts over some pictures; every figure is exact."""

    pictures: int
    classes: dict[str, int]
    splits: dict[str, int]
    sizes: dict[tuple[int, int], int]
    """How many pictures have each (width, height) in pixels."""
    captions: int
    distinct_captions: int
    without_caption: int
    repeating_one_caption: int
    """Pictures with several captions that are all the same."""
    most_repeated: tuple[str, int]
    """The caption that stands under most pictures, and under how many."""
    with_directions: int
    """Captions that say left, north or the like, which flips and rotations belie."""
    not_ascii: int
    """Captions with letters outside ASCII."""
    words_per_caption: float
    duplicates: int
    """Pictures that are byte for byte another one."""


def statistics(pictures: Sequence[Picture]) -> Statistics:
    """Count classes, splits, sizes, captions and duplicates; no picture is opened."""
    sentences = [caption for picture in pictures for caption in picture.captions]
    under = Counter(caption for picture in pictures for caption in set(picture.captions))
    several = [picture.captions for picture in pictures if len(picture.captions) > 1]
    return Statistics(
        pictures=len(pictures),
        classes=dict(Counter(picture.label for picture in pictures if picture.label).most_common()),
        splits=dict(Counter(picture.split for picture in pictures)),
        sizes=dict(Counter((picture.width_px, picture.height_px) for picture in pictures).most_common()),
        captions=len(sentences),
        distinct_captions=len(set(sentences)),
        without_caption=sum(not picture.captions for picture in pictures),
        repeating_one_caption=sum(len(set(captions)) == 1 for captions in several),
        most_repeated=max(under.items(), key=lambda pair: pair[1], default=("", 0)),
        with_directions=sum(map(has_direction_words, sentences)),
        not_ascii=sum(not caption.isascii() for caption in sentences),
        words_per_caption=sum(len(caption.split()) for caption in sentences) / max(len(sentences), 1),
        duplicates=len(pictures) - len({picture.sha256 for picture in pictures}),
    )


def colours(dataset: Dataset, pictures: Sequence[Picture]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of red, green and blue from 0 to 1, over at most 500 pictures evenly chosen."""
    import numpy as np  # a tenth of a second; the counts above do without

    from studio.images import open_picture

    totals = np.zeros((3, 3))
    for picture in pictures[:: -(-len(pictures) // COLOUR_SAMPLE) or 1]:
        values = np.asarray(open_picture(dataset.path(picture)), dtype=np.float64).reshape(-1, 3) / 255
        totals += np.stack([np.full(3, len(values)), values.sum(0), (values**2).sum(0)])
    count, sums, squares = np.maximum(totals[0], 1), totals[1], totals[2]
    mean = sums / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return tuple(map(float, mean)), tuple(map(float, deviation))
