"""Pictures of fixed prompts and seeds while a run goes on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from studio.events import PreviewSaved
from studio.generation.samplers import own_sampler, sample, tile_noise
from studio.images import save_tile
from studio.models.load import DiffusionModel
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


@torch.inference_mode()
def tiles_of(model: DiffusionModel, settings: TrainSettings, prompts: Sequence[str]) -> np.ndarray:
    """Pixels (n, size, size, 3) uint8 of a tile for each prompt, tile n from seed 1000 + n."""
    cells = settings.data.size_px // model.reduction
    shape = (int(model.unet.config.in_channels), cells, cells)
    made = []
    for start in range(0, len(prompts), _BATCH):
        some = list(prompts[start : start + _BATCH])
        latents = sample(
            model,
            model.embed(some),
            model.embed([""] * len(some)),
            torch.cat([tile_noise(FIRST_SEED + start + place, shape) for place in range(len(some))]),
            sampler_of(model),
            settings.saving.preview_steps,
            settings.saving.preview_guidance,
        )
        made.append(model.decode(latents).permute(0, 2, 3, 1).numpy())
    return np.concatenate(made)


def sampler_of(model: DiffusionModel) -> str:
    return "dpm++2m" if model.objective == "flow" else own_sampler(model.scheduler)
