"""Pictures of fixed prompts and seeds while a run goes on."""

from pathlib import Path

import torch

from studio.events import PreviewSaved
from studio.generation.samplers import own_sampler, sample, tile_noise
from studio.images import save_tile
from studio.models.load import DiffusionModel
from studio.settings import TrainSettings

FIRST_SEED = 1000


@torch.inference_mode()
def save_previews(model: DiffusionModel, settings: TrainSettings, run: Path, step: int) -> list[PreviewSaved]:
    """One picture for each preview prompt; preview n always starts from seed 1000 + n."""
    saving = settings.saving
    if not saving.preview_prompts:
        return []
    cells = settings.data.size_px // model.reduction
    channels = int(model.unet.config.in_channels)
    prompts = list(saving.preview_prompts)
    noise = torch.cat([tile_noise(FIRST_SEED + index, (channels, cells, cells)) for index in range(len(prompts))])
    sampler = "dpm++2m" if model.objective == "flow" else own_sampler(model.scheduler)
    latents = sample(
        model,
        model.embed(prompts),
        model.embed([""] * len(prompts)),
        noise,
        sampler,
        saving.preview_steps,
        saving.preview_guidance,
    )
    pixels = model.decode(latents).permute(0, 2, 3, 1).numpy()
    saved = []
    for index, prompt in enumerate(prompts):
        path = run / "previews" / f"{step:06d}-{index + 1:02d}.png"
        recipe = {"prompt": prompt, "seed": FIRST_SEED + index, "step": step, "sampler": sampler, "synthetic": True}
        save_tile(path, pixels[index], recipe)
        saved.append(PreviewSaved(step, path.relative_to(run).as_posix(), prompt, FIRST_SEED + index))
    return saved
