"""The pictures and captions that a run learns from and is measured on."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from studio import files
from studio.context import Context
from studio.datasets.augmentation import orient
from studio.datasets.captions import from_template
from studio.datasets.dataset import Dataset, Picture, held_out_split, open_dataset
from studio.errors import UsageError
from studio.events import Warned
from studio.images import fit_square, open_picture
from studio.settings import D4, DataSettings, TrainSettings
from studio.training.batches import CLASS_CAPTION, NO_CAPTION, Draw, split_for_validation


@dataclass(frozen=True)
class Pictures:
    """Pictures of one data set at one size, by index."""

    dataset: Dataset
    pictures: list[Picture]
    settings: DataSettings

    def __len__(self) -> int:
        return len(self.pictures)

    @cached_property
    def sha256(self) -> str:
        """What tells these pictures, in this order, from any others."""
        return files.sha256_of_texts(picture.sha256 for picture in self.pictures)

    @property
    def caption_counts(self) -> list[int]:
        return [len(picture.captions) for picture in self.pictures]

    def pixels(self, index: int, orientation: int = 0) -> np.ndarray:
        """(3, size, size) uint8, resized by the shorter side with antialiasing and cropped at the centre."""
        image = fit_square(open_picture(self.dataset.path(self.pictures[index])), self.settings.size_px)
        return np.ascontiguousarray(orient(np.asarray(image).transpose(2, 0, 1), D4[orientation]))

    def tensor(self, entries: Sequence[tuple[int, int]]) -> Tensor:
        """(n, 3, size, size) float32 in [-1, 1] of (picture, orientation) entries."""
        pixels = np.stack([self.pixels(index, orientation) for index, orientation in entries])
        return torch.from_numpy(pixels).float() / 127.5 - 1

    def caption(self, draw: Draw) -> str:
        picture = self.pictures[draw.picture]
        if draw.caption == NO_CAPTION:
            return ""
        if draw.caption == CLASS_CAPTION:
            return next(iter(from_template(self.settings.class_template, picture.label)), "")
        return picture.captions[draw.caption]


def open_pictures(context: Context, settings: TrainSettings) -> tuple[Pictures, Pictures]:
    """What is trained on, and what is only measured.

    Raises:
        UsageError: there is no such data set or split, or it is empty.
    """
    data = settings.data
    dataset = open_dataset(context.workspace, data.name)
    training = dataset.pictures(data.split)
    if not training:
        raise UsageError(f"{data.name} has no pictures in its split {data.split}.", f"It has {dataset.splits}.")
    if data.limit:
        training = _some(training, data.limit, settings.seed)
    try:
        measured = dataset.pictures(held_out_split(dataset, data.validation_split))
    except UsageError:
        if data.validation_split:
            raise
        context.emit(
            Warned(
                f"{data.name} has nothing put aside, so up to a tenth of {data.split} is measured and not trained on.",
                "Import with --hold-out to choose how much.",
            )
        )
        kept, aside = split_for_validation(len(training), settings.saving.validation_images, settings.seed)
        training, measured = [training[index] for index in kept], [training[index] for index in aside]
    if not measured:
        raise UsageError(f"{data.name} has no picture left to measure on.", "At least two are needed.")
    chosen = _some(measured, settings.saving.validation_images, settings.seed)
    return Pictures(dataset, training, data), Pictures(dataset, chosen, data)


def _some(pictures: list[Picture], wanted: int, seed: int) -> list[Picture]:
    """As many pictures as wanted, by the seed, in the order of their import."""
    order = np.random.Generator(np.random.Philox(key=[seed, 5])).permutation(len(pictures))
    return [pictures[index] for index in sorted(map(int, order[:wanted]))]
