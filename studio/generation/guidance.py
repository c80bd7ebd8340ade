"""What a network says about noisy latents, steered towards a prompt."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from studio.models.load import Conditioning, DiffusionModel, joined

Predict = Callable[[Tensor, Tensor, int], Tensor]
"""The prediction for latents at a time, which is the sampler's so-and-so-many-th."""


def guided(
    model: DiffusionModel,
    scheduler: Any,
    prompts: Conditioning,
    negative: Conditioning,
    guidance: float,
    rescale: float = 0.0,
    precision: torch.dtype = torch.float32,
) -> Predict:
    """Classifier-free guidance (Ho and Salimans 2022, eq. 6 with w + 1) in one pass for both; float32."""
    is_guided = guidance > 1
    dtype = model.unet.dtype
    text = (joined([negative, prompts]) if is_guided else prompts).to(dtype)
    # A flow network under a sampler that knows only diffusion.
    foreign = model.objective == "flow" and scheduler.config.get("prediction_type") == "epsilon"

    def of_both(latents: Tensor, time: Tensor | float) -> Tensor:
        with torch.autocast(model.device.type, precision, enabled=precision != torch.float32):
            return model.predict(latents.to(dtype), time, text).float()

    def predict(latents: Tensor, time: Tensor, index: int) -> Tensor:
        both = torch.cat([latents, latents]) if is_guided else latents
        if foreign:
            predicted = epsilon_of_flow(of_both, both, noise_ratio(scheduler, time, index))
        else:
            predicted = of_both(both, time)
        if not is_guided:
            return predicted
        away, towards = predicted.chunk(2)
        steered = away + guidance * (towards - away)
        return rescaled(steered, towards, rescale) if rescale else steered

    return predict


def rescaled(steered: Tensor, towards: Tensor, share: float) -> Tensor:
    """Guidance with a share of its contrast taken back to the prompt's own (Lin et al. 2024, eq. 15, 16)."""
    axes = list(range(1, steered.ndim))
    even = steered * (towards.std(dim=axes, keepdim=True) / steered.std(dim=axes, keepdim=True))
    return share * even + (1 - share) * steered


def noise_ratio(scheduler: Any, time: Tensor, index: int) -> float:
    """Noise over signal, √((1−a)/a), at a step of a sampler on a diffusion's noise levels."""
    if hasattr(scheduler, "sigmas"):
        return float(scheduler.sigmas[index])
    alpha = float(scheduler.alphas_cumprod[int(time)])
    return float(((1 - alpha) / alpha) ** 0.5)


def epsilon_of_flow(velocity_at: Callable[[Tensor, float], Tensor], latents: Tensor, ratio: float) -> Tensor:
    """What a flow network says about the noise in a diffusion's latents.

    x = √a·x₀ + √(1−a)·n is, but for a factor, the flow's (1−σ)·x₀ + σ·n with σ/(1−σ) = √((1−a)/a);
    the network's v = n − x₀ there gives n = x + (1−σ)·v.
    """
    sigma = ratio / (1 + ratio)
    root_of_alpha = float((1 + ratio**2) ** -0.5)
    straight = latents * ((1 - sigma) / root_of_alpha)
    return straight + (1 - sigma) * velocity_at(straight, sigma * 1000)
