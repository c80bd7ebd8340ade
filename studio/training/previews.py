"""Pictures of fixed prompts and seeds while a run goes on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from studio.events import PreviewSaved
from studio.generation.samplers import own_sampler, sample, tile_noise
from studio.images import save_tile
from studio.memory import AtOnce
from studio.models.load import DTYPES, DiffusionModel
from studio.settings import TrainSettings

FIRST_SEED = 1000
_BATCH = 8


def save_previews(model: DiffusionModel, settings: TrainSettings, run: Path, step: int) -> list[PreviewSaved]:
    """One picture for each preview prompt; preview n always starts from seed 1000 + n."""
    saved = []
    prompts = settings.saving.preview_prompts
    for index, pixels in enumerate(tiles_of(model, settings, prompts) if prompts else ()):
        path = run / "previews" / f"{step:06d}-{index + 1:02d}.png"
        seed = FIRST_SEED + index
        recipe = {"prompt": prompts[index], "seed": seed, "step": step, "sampler": sampler_of(model), "synthetic": True}
        save_tile(path, pixels, recipe)
        saved.append(PreviewSaved(step, path.relative_to(run).as_posix(), prompts[index], seed))
    return saved


def tiles_of(model: DiffusionModel, settings: TrainSettings, prompts: Sequence[str]) -> np.ndarray:
    """Pixels (n, size, size, 3) uint8 of a tile for each prompt, tile n from seed 1000 + n."""
    return pixels_of(model, latents_of(model, settings, prompts, [FIRST_SEED + place for place in range(len(prompts))]))


@torch.no_grad()
def latents_of(model: DiffusionModel, settings: TrainSettings, prompts: Sequence[str], seeds: Sequence[int]) -> Tensor:
    """Latents (n, channels, height, width), scaled as the UNet sees them, of a tile for each prompt and its seed."""
    cells = settings.data.size_px // model.reduction
    shape = (int(model.unet.config.in_channels), cells, cells)

    def made(some: Sequence[tuple[str, int]]) -> Tensor:
        return sample(
            model,
            model.embed([prompt for prompt, _ in some]),
            model.embed([""] * len(some)),
            torch.cat([tile_noise(seed, shape) for _, seed in some]),
            sampler_of(model),
            settings.saving.preview_steps,
            settings.saving.preview_guidance,
            precision=DTYPES[settings.optimiser.precision],
        )

    return torch.cat(AtOnce(_BATCH).parts(list(zip(prompts, seeds, strict=True)), made))


@torch.no_grad()
def pixels_of(model: DiffusionModel, latents: Tensor) -> np.ndarray:
    """Pixels (n, height, width, 3) uint8 of scaled latents."""
    return model.decode(latents).permute(0, 2, 3, 1).numpy()


def sampler_of(model: DiffusionModel) -> str:
    return "dpm++2m" if model.objective == "flow" else own_sampler(model.scheduler)
