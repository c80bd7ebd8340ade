"""What a recipe means for one data set: how many pictures, steps and passes, and what a person should know before."""

import json
from dataclasses import dataclass
from math import ceil

from studio.datasets.dataset import Dataset, held_out_split, open_dataset
from studio.datasets.splits import put_aside
from studio.errors import UsageError
from studio.events import Warned
from studio.models.registry import resolve
from studio.settings import AutoencoderMethod, FullMethod, LoraMethod, ScenesMethod, TrainSettings
from studio.workspace import Workspace

MOST_EPOCHS = 5
"""After more passes a fine-tune of Stable Diffusion forgets and averages (Kasodekar 2024, sec. 4)."""
_SMALLEST_LARGE_PX = 256  # the starter has little to forget
FEW_PICTURES = {"lora": 20, "full": 1000, "scratch": 5000}


@dataclass(frozen=True)
class Amount:
    """Pictures of a data set that a recipe trains on, how many of them carry no caption, and how many it measures."""

    training: int
    without_caption: int
    measured: int


def amount(workspace: Workspace, settings: TrainSettings) -> Amount:
    """How much a recipe takes of its data set.

    Raises:
        UsageError: there is no such data set or split.
    """
    dataset = open_dataset(workspace, settings.data.name)
    pictures = dataset.pictures(settings.data.split)
    count = min(len(pictures), settings.data.limit or len(pictures))
    wanted = settings.saving.validation_images
    aside = _held_out(dataset, settings)
    measured = put_aside(count, wanted) if aside is None else min(aside, wanted)
    training = count - (measured if aside is None else 0)
    without = sum(not picture.captions for picture in pictures)
    return Amount(training, round(without * training / max(len(pictures), 1)), measured)


def _held_out(dataset: Dataset, settings: TrainSettings) -> int | None:
    try:
        return dataset.splits[held_out_split(dataset, settings.data.validation_split)]
    except UsageError:
        if settings.data.validation_split:
            raise
        return None


def in_steps(workspace: Workspace, settings: TrainSettings) -> TrainSettings:
    """The same settings with the steps that their epochs come to; epochs of 0 leave the steps as they are.

    Raises:
        UsageError: there is no such data set or split.
    """
    optimiser = settings.optimiser
    if not optimiser.epochs:
        return settings
    training = amount(workspace, settings).training
    steps = max(ceil(optimiser.epochs * training / optimiser.effective_batch), 1)
    return settings.model_copy(update={"optimiser": optimiser.model_copy(update={"steps": steps})})


def advice(settings: TrainSettings, found: Amount, native_px: int | None) -> list[Warned]:
    """What speaks against a recipe for a data set, most serious first.

    Args:
        native_px: size that the base was made for; None where it is not known.
    """
    said = []
    method, optimiser = settings.method, settings.optimiser
    learns_text = not isinstance(method, AutoencoderMethod | ScenesMethod)
    effective = optimiser.effective_batch
    epochs = optimiser.steps * effective / max(found.training, 1)
    most_steps = max(ceil(MOST_EPOCHS * found.training / effective), 1)
    fewest = FEW_PICTURES.get(method.name, 0)
    if learns_text and found.without_caption:
        said.append(
            Warned(
                f"{found.without_caption} of {found.training} pictures have no caption and train without a prompt.",
                "Import with --caption 'a satellite image of {class}'.",
            )
        )
    if found.training < fewest:
        said.append(
            Warned(
                f"{found.training} pictures are few for {_named(method.name)}: {fewest} or more are usual.",
                _for_few(method.name),
            )
        )
    if optimiser.steps > most_steps and _can_forget(settings, native_px):
        said.append(
            Warned(
                f"{optimiser.steps} steps are {epochs:.1f} passes over {found.training} pictures; after about "
                f"{MOST_EPOCHS}, fine-tunes of Stable Diffusion forget and average.",
                f"Give optimiser.steps={most_steps}, or stop by what is held out: saving.patience=3.",
            )
        )
    if native_px and settings.data.size_px != native_px and isinstance(method, LoraMethod | FullMethod):
        said.append(
            Warned(
                f"The base was made for {native_px} px and this run trains at {settings.data.size_px} px.",
                f"Pictures at another size come out doubled or blurred: data.size_px={native_px}.",
            )
        )
    return said


def native_size_px(workspace: Workspace, base: str) -> int | None:
    """Side of the pictures that a model was made for; None where it is not here, or does not say."""
    try:
        folder = resolve(workspace, base).folder
        cells = int(json.loads((folder / "unet" / "config.json").read_text())["sample_size"])
        halvings = len(json.loads((folder / "vae" / "config.json").read_text())["block_out_channels"]) - 1
        return cells << halvings
    except (UsageError, OSError, ValueError, KeyError, TypeError):
        return None


def _can_forget(settings: TrainSettings, native_px: int | None) -> bool:
    """Whether a run goes on by a count alone from a model that knows more than its data set shows."""
    is_fine_tune = isinstance(settings.method, LoraMethod | FullMethod)
    return is_fine_tune and not settings.saving.patience and (native_px is None or native_px >= _SMALLEST_LARGE_PX)


def _named(method: str) -> str:
    return {"lora": "a LoRA", "full": "a full fine-tune", "scratch": "training from nothing"}[method]


def _for_few(method: str) -> str:
    return "" if method == "lora" else "Train a LoRA, which a few dozen pictures suit: the recipe lora."
