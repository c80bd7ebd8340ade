"""What the network is asked to predict: epsilon, v and flow, the noise it is shown and the weight of its errors."""

import torch
from torch import Tensor

from studio.errors import UsageError


def alphas_cumprod(scheduler: dict[str, object]) -> Tensor:
    """Cumulative products of the signal's share, (1000,) float32, of a scheduler's settings.

    Ho et al. 2020, eq. 4; "scaled_linear" is Stable Diffusion's schedule, linear in the square root of beta. Every bit
    is that of diffusers' schedulers, which models were trained and are sampled with.

    Raises:
        UsageError: the schedule is another than the two that Stable Diffusion's kin are trained with.
    """
    schedule = scheduler.get("beta_schedule", "scaled_linear")
    if schedule not in ("scaled_linear", "linear"):
        raise UsageError(f"The model's noise schedule {schedule} cannot be trained on.")
    for setting in ("trained_betas", "rescale_betas_zero_snr"):
        if scheduler.get(setting):
            raise UsageError(f"A model whose scheduler sets {setting} cannot be trained on.")
    count = int(str(scheduler.get("num_train_timesteps", 1000)))
    start, end = float(str(scheduler.get("beta_start", 0.00085))), float(str(scheduler.get("beta_end", 0.012)))
    if schedule == "scaled_linear":
        betas = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float32) ** 2
    else:
        betas = torch.linspace(start, end, count, dtype=torch.float32)
    return torch.cumprod(1 - betas, 0)


def draw_timesteps(objective: str, count: int, generator: torch.Generator) -> Tensor:
    """Timesteps (count,) of the unit interval: uniform, or logit-normal for flow (Esser et al. 2024, sec. 3.1)."""
    if objective == "flow":
        return torch.sigmoid(torch.randn(count, generator=generator))
    return torch.rand(count, generator=generator)


def even_timesteps(count: int) -> Tensor:
    """Timesteps (count,) spread evenly over the unit interval, for a fixed validation set."""
    return (torch.arange(count) + 0.5) / count


def noised(
    objective: str, latents: Tensor, noise: Tensor, times: Tensor, alphas: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The network's input, its timestep (n,) on the scale of 0 to 1000, and its target.

    Args:
        latents: (n, c, h, w).
        noise: the same shape, standard normal.
        times: (n,) in [0, 1).
        alphas: `alphas_cumprod`.

    epsilon: Ho et al. 2020, eq. 14; v: Salimans and Ho 2022, sec. 4; flow: Lipman et al. 2023, straight paths.
    """
    if objective == "flow":
        sigma = times.view(-1, 1, 1, 1).to(latents.dtype)
        return (1 - sigma) * latents + sigma * noise, times * 1000, noise - latents
    steps = (times * len(alphas)).long().clamp(max=len(alphas) - 1)
    alpha = alphas.to(times.device)[steps].view(-1, 1, 1, 1)
    signal, strength = alpha.sqrt().to(latents.dtype), (1 - alpha).sqrt().to(latents.dtype)
    target = noise if objective == "epsilon" else signal * noise - strength * latents
    return signal * latents + strength * noise, steps, target


def min_snr_weights(objective: str, times: Tensor, alphas: Tensor, gamma: float) -> Tensor:
    """The weight (n,) of each picture's error: min(SNR, gamma) of its timestep, as if the picture were predicted.

    Hang et al. 2023, sec. 3.4: divided by SNR for epsilon and by SNR + 1 for v; the paper does not treat flows.
    """
    steps = (times * len(alphas)).long().clamp(max=len(alphas) - 1)
    alpha = alphas.to(times.device)[steps]
    ratio = alpha / (1 - alpha)
    weights: Tensor = ratio.clamp(max=gamma) / (ratio if objective == "epsilon" else ratio + 1)
    return weights.float()


def with_offset(noise: Tensor, offsets: Tensor, strength: float) -> Tensor:
    """Noise (n, c, h, w) plus a share of offsets (n, c, 1, 1), which are the same all over a picture.

    Guttenberg 2023, "Diffusion with offset noise": standard noise hardly changes a picture's mean, so neither can what
    learns to remove it.
    """
    return noise + strength * offsets
