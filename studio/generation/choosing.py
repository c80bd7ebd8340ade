"""How a batch is sampled where its settings leave that open."""

from pathlib import Path

import torch

from studio.errors import UsageError
from studio.generation.provenance import Sampling
from studio.generation.samplers import SAMPLERS, own_sampler
from studio.models.load import DiffusionModel
from studio.models.registry import ModelRef
from studio.settings import MOST_STEPS, GenerateSettings

MOST_PX = 8192
_GUIDANCE = 7.5
_FROM_A_PICTURE, _INPAINTING, _ENLARGING = 0.6, 1.0, 0.3


def chosen_sampling(ref: ModelRef, model: DiffusionModel, settings: GenerateSettings) -> Sampling:
    """What was asked for, else what suits the model, else Stable Diffusion's usual values.

    Raises:
        UsageError: the size does not suit the model, or the sampler takes no so many steps.
    """
    suits = ref.defaults()
    sampler = settings.sampler or suits.sampler or own_sampler(model.scheduler)
    own_steps = suits.steps if sampler == suits.sampler else None
    usual = suits.guidance if suits.guidance is not None else SAMPLERS[sampler].guidance or _GUIDANCE
    steps = settings.steps or own_steps or SAMPLERS[sampler].steps
    if steps > MOST_STEPS.get(sampler, steps):
        raise UsageError(f"{sampler} takes {MOST_STEPS[sampler]} steps at most.", "Give --steps, or --sampler.")
    size = model.native_size_px
    width, height = settings.width_px or size, settings.height_px or size
    if width % model.reduction or height % model.reduction:
        raise UsageError(f"{width} × {height} is no multiple of {model.reduction} pixels.", "Choose another size.")
    if max(width, height) * settings.upscale > MOST_PX:
        raise UsageError(
            f"{width} × {height} enlarged {settings.upscale} times is over {MOST_PX} pixels.", "Choose a smaller size."
        )
    in_windows = settings.upscale > 1 or (settings.scene and max(width, height) > size)
    return Sampling(
        sampler,
        steps,
        usual if settings.guidance is None else settings.guidance,
        width,
        height,
        settings.precision or chosen_precision(model.device),
        settings.rescale,
        settings.seamless,
        size if in_windows else 0,
        settings.upscale,
        Path(settings.init).stem,
        Path(settings.mask).stem,
        _strength(settings),
    )


def chosen_precision(device: torch.device) -> str:
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "fp32"


def _strength(settings: GenerateSettings) -> float:
    if settings.upscale > 1:
        return settings.strength or _ENLARGING
    if settings.mask:
        return settings.strength or _INPAINTING
    return settings.strength or _FROM_A_PICTURE if settings.init else 1.0
