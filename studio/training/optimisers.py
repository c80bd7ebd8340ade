"""The optimiser, its step size over time, and its state as plain tensors."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from studio.settings import OptimiserSettings

_STATE = ("step", "exp_avg", "exp_avg_sq")


def adamw(parameters: Mapping[str, nn.Parameter], settings: OptimiserSettings) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) over named weights, fused."""
    return torch.optim.AdamW(
        list(parameters.values()), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )


def learning_rate(settings: OptimiserSettings, step: int) -> float:
    """Step size at a step, counted from 0: warm-up, then constant, or a cosine or linear fall to nothing."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    start = max(settings.warmup_steps, int(settings.fall_from * settings.steps))
    if settings.schedule == "constant" or step < start:
        return settings.learning_rate
    done = (step - start) / max(settings.steps - start, 1)
    share = 1 - done if settings.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * done))
    return settings.learning_rate * share


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate


def state_tensors(optimiser: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The optimiser's state under `optimiser.<name>.<what>`."""
    return {
        f"optimiser.{name}.{what}": optimiser.state[parameter][what]
        for name, parameter in parameters.items()
        if parameter in optimiser.state
        for what in _STATE
    }


def restore(
    optimiser: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    for name, parameter in parameters.items():
        if f"optimiser.{name}.step" in tensors:
            optimiser.state[parameter] = {
                what: tensors[f"optimiser.{name}.{what}"].to(parameter.device) for what in _STATE
            }
