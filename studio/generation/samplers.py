"""From noise to latents: PNDM, DPM++ 2M, UniPC, DDIM and Euler, for networks that predict epsilon, v or flow."""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from studio.errors import UsageError
from studio.models.load import PREDICTION_TYPES, DiffusionModel

SAMPLERS: dict[str, Any] = {
    "pndm": PNDMScheduler,
    "dpm++2m": DPMSolverMultistepScheduler,
    "unipc": UniPCMultistepScheduler,
    "ddim": DDIMScheduler,
    "euler": EulerDiscreteScheduler,
}
_OF_SCHEDULER = {scheduler.__name__: name for name, scheduler in SAMPLERS.items()}
# Stable Diffusion's noise schedule, used where a flow network is sampled by a method that knows only diffusion.
_DIFFUSION = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
}
_KNOWS_FLOW = ("dpm++2m", "unipc", "euler")

EachStep = Callable[[int, int], None]


def own_sampler(scheduler: dict[str, Any]) -> str:
    """The sampler that a model's scheduler settings name, PNDM where they name another."""
    return _OF_SCHEDULER.get(str(scheduler.get("_class_name")), "pndm")


def make_scheduler(sampler: str, model: DiffusionModel) -> Any:
    """A diffusers scheduler for a model.

    Raises:
        UsageError: there is no sampler of this name.
    """
    if sampler not in SAMPLERS:
        raise UsageError(f"There is no sampler named {sampler}.", f"There are {', '.join(SAMPLERS)}.")
    if model.objective != "flow":
        # A base that predicted flow leaves its own noise levels behind where a run learns to predict another thing.
        known = {key: value for key, value in model.scheduler.items() if not key.startswith("_") and "flow" not in key}
        prediction = PREDICTION_TYPES[model.objective]
        return SAMPLERS[sampler].from_config({**known, "prediction_type": prediction})
    shift = float(model.scheduler.get("flow_shift", 1.0))
    if sampler == "euler":
        return FlowMatchEulerDiscreteScheduler(shift=shift)
    if sampler in _KNOWS_FLOW:
        return SAMPLERS[sampler](prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift)
    return SAMPLERS[sampler].from_config({**_DIFFUSION, "prediction_type": "epsilon"})


@torch.inference_mode()
def sample(
    model: DiffusionModel,
    embeddings: Tensor,
    negative: Tensor,
    noise: Tensor,
    sampler: str,
    steps: int,
    guidance: float,
    each_step: EachStep = lambda done, total: None,
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """Latents (n, channels, height, width) of prompts.

    Args:
        embeddings: (n, tokens, width) of the prompts.
        negative: the same of what to steer away from.
        noise: (n, channels, height, width) standard normal.
        guidance: classifier-free guidance (Ho and Salimans 2022, eq. 6 with w + 1); 1 and below uses none.
    """
    scheduler = make_scheduler(sampler, model)
    scheduler.set_timesteps(steps)
    as_diffusion = model.objective == "flow" and sampler not in _KNOWS_FLOW
    guided = guidance > 1
    text = torch.cat([negative, embeddings]) if guided else embeddings
    latents = noise.to(model.device) * float(getattr(scheduler, "init_noise_sigma", 1.0))
    for index, time in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(latents, time) if hasattr(scheduler, "scale_model_input") else latents
        with torch.autocast(model.device.type, precision, enabled=precision != torch.float32):
            predicted = _predict(model, scheduler, scaled, time, text, guided, as_diffusion)
        if guided:
            away, towards = predicted.float().chunk(2)
            predicted = away + guidance * (towards - away)
        latents = scheduler.step(predicted.float(), time, latents).prev_sample
        each_step(index + 1, len(scheduler.timesteps))
    return latents


def _predict(
    model: DiffusionModel, scheduler: Any, latents: Tensor, time: Tensor, text: Tensor, guided: bool, as_diffusion: bool
) -> Tensor:
    if as_diffusion:
        return _epsilon_of_flow(model, scheduler, latents, time, text, guided)
    both = torch.cat([latents, latents]) if guided else latents
    prediction: Tensor = model.unet(both, time, encoder_hidden_states=text).sample
    return prediction


def _epsilon_of_flow(
    model: DiffusionModel, scheduler: Any, latents: Tensor, time: Tensor, text: Tensor, guided: bool
) -> Tensor:
    """What a flow network says about the noise in a diffusion's latents.

    x = √a·x₀ + √(1−a)·n is, but for a factor, the flow's (1−σ)·x₀ + σ·n with σ/(1−σ) = √((1−a)/a);
    the network's v = n − x₀ there gives n = x + (1−σ)·v.
    """
    alpha = float(scheduler.alphas_cumprod[int(time)])
    ratio = ((1 - alpha) / alpha) ** 0.5
    sigma = ratio / (1 + ratio)
    straight = latents * ((1 - sigma) / alpha**0.5)
    both = torch.cat([straight, straight]) if guided else straight
    velocity = model.unet(both, sigma * 1000, encoder_hidden_states=text).sample
    epsilon: Tensor = both + (1 - sigma) * velocity
    return epsilon


def tile_noise(seed: int, shape: tuple[int, int, int]) -> Tensor:
    """The noise (1, channels, height, width) of one tile; the same on every device and in every batch."""
    return torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed))
