"""The pictures and captions that a run learns from and is measured on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from studio import files
from studio.context import Context
from studio.datasets.augmentation import orient
from studio.datasets.captions import from_template
from studio.datasets.dataset import Dataset, Picture, held_out_split, open_dataset
from studio.display import shown_line
from studio.errors import UsageError
from studio.events import Warned
from studio.images import fit, open_picture
from studio.models.registry import Normalisation
from studio.settings import D4, DataSettings, FullMethod, LoraMethod, ScratchMethod, TrainSettings
from studio.training.batches import CLASS_CAPTION, NO_CAPTION, Draw, split_for_validation
from studio.training.buckets import Shape, bucket_shapes, nearest_shape


@dataclass(frozen=True)
class Pictures:
    """Pictures of one data set at one size, by index; squares where they have no shapes."""

    dataset: Dataset
    pictures: list[Picture]
    settings: DataSettings
    shapes: tuple[Shape, ...] = ()
    normalisation: Normalisation | None = None

    def __len__(self) -> int:
        return len(self.pictures)

    @cached_property
    def sha256(self) -> str:
        """What tells these pictures, in this order, from any others."""
        return files.sha256_of_texts(picture.sha256 for picture in self.pictures)

    @property
    def caption_counts(self) -> list[int]:
        return [len(picture.captions) for picture in self.pictures]

    def shape(self, index: int, orientation: int = 0) -> Shape:
        """Height and width of a picture in an orientation, in pixels."""
        height, width = self.shapes[index] if self.shapes else (self.settings.size_px, self.settings.size_px)
        return (width, height) if is_quarter_turn(orientation) else (height, width)

    def pixels(self, index: int, orientation: int = 0) -> np.ndarray:
        """(3, height, width) uint8, resized with antialiasing to cover its shape and cropped at the centre."""
        height, width = self.shape(index)
        image = fit(open_picture(self.dataset.path(self.pictures[index])), width, height)
        return np.ascontiguousarray(orient(np.asarray(image).transpose(2, 0, 1), D4[orientation]))

    def tensor(self, entries: Sequence[tuple[int, int]]) -> Tensor:
        """(n, 3, height, width) float32 of (picture, orientation) entries of one shape, in [-1, 1] or normalised."""
        pixels = torch.from_numpy(np.stack([self.pixels(index, orientation) for index, orientation in entries])).float()
        if self.normalisation is None:
            return pixels / 127.5 - 1
        mean, deviation = (torch.tensor(one).view(3, 1, 1) for one in self.normalisation)
        return (pixels / 255 - mean) / deviation

    def frames(self, entries: Sequence[tuple[int, int]]) -> Tensor:
        """(n, 6) height and width of the original, top and left of the crop, height and width, of each entry.

        Podell et al. 2023, sec. 2.2; the crop is counted in pixels of the resized picture, as in diffusers' scripts.
        """
        return torch.tensor([self._frame(index, orientation) for index, orientation in entries], dtype=torch.float32)

    def _frame(self, index: int, orientation: int) -> list[int]:
        height, width = self.shape(index)
        original = (self.pictures[index].height_px, self.pictures[index].width_px)
        scale = max(height / original[0], width / original[1])
        # In the middle, so a flip leaves it where it is, to a pixel.
        crop = ((round(original[0] * scale) - height) // 2, (round(original[1] * scale) - width) // 2)
        pairs = (original, crop, (height, width))
        return [side for pair in pairs for side in (reversed(pair) if is_quarter_turn(orientation) else pair)]

    def caption(self, draw: Draw) -> str:
        picture = self.pictures[draw.picture]
        if draw.caption == NO_CAPTION:
            return ""
        if draw.caption == CLASS_CAPTION:
            return next(iter(from_template(self.settings.class_template, picture.label)), "")
        return picture.captions[draw.caption]


def known_classes(training: Pictures, measured: Pictures) -> list[str]:
    """The classes of what is trained on, by name, which are all that is measured too.

    Raises:
        UsageError: there are fewer than two, pictures without one, or others among those measured.
    """
    classes = sorted({picture.label for picture in training.pictures if picture.label})
    if len(classes) < 2 or any(not picture.label for picture in [*training.pictures, *measured.pictures]):
        raise UsageError(
            f"{training.settings.name} has pictures without a class, or only one class.", "Import folders of classes."
        )
    unknown = {picture.label for picture in measured.pictures} - set(classes)
    if unknown:
        names = shown_line(", ".join(sorted(unknown)))
        raise UsageError(f"The pictures to measure on have classes that are not trained on: {names}.")
    return classes


# Settings that only a loss on latents knows, and what they are where they are left alone.
_OF_DIFFUSION = {"buckets": False, "ignore": "nothing", "normalisation": "none"}


def is_quarter_turn(orientation: int) -> bool:
    """Whether an orientation, by its number, lays height and width the other way round."""
    return D4[orientation].endswith(("rotate90", "rotate270"))


def in_buckets(pictures: Pictures, step_px: int) -> Pictures:
    """The same pictures, each in the shape nearest to its own; sides are multiples of a step, or the square's."""
    shapes = bucket_shapes(pictures.settings.size_px, step_px)
    own = tuple(nearest_shape(one.height_px, one.width_px, shapes) for one in pictures.pictures)
    return replace(pictures, shapes=own)


def open_pictures(context: Context, settings: TrainSettings) -> tuple[Pictures, Pictures]:
    """What is trained on, and what is only measured.

    Raises:
        UsageError: there is no such data set or split, or it is empty, or the method cannot learn from it as told.
    """
    data = settings.data
    if not isinstance(settings.method, LoraMethod | FullMethod | ScratchMethod):
        odd = [name for name, value in _OF_DIFFUSION.items() if getattr(data, name) != value]
        if odd:
            raise UsageError(
                f"The method {settings.method.name} knows no {odd[0]}.", "Diffusion runs do: lora, full and scratch."
            )
        if settings.saving.rank_by == "kid":
            raise UsageError(
                f"The method {settings.method.name} makes no tiles to rank checkpoints by.",
                "Give saving.rank_by=validation_loss.",
            )
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
