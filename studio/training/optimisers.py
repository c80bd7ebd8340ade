"""The optimiser, its step size over time, and its state as plain tensors."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from studio.errors import UsageError
from studio.settings import OptimiserSettings

# Numbers that an optimiser keeps beside its tensors, and what they become again.
_NUMBERS: dict[str, type] = {"int": int, "float": float}
_FOUND = ("d", "d_max", "d_numerator", "k")
"""What Prodigy finds for all weights together, beside the settings of its group."""


def optimiser_for(parameters: Mapping[str, nn.Parameter], settings: OptimiserSettings) -> torch.optim.Optimizer:
    """The optimiser of a recipe over named weights.

    Raises:
        UsageError: its library is not installed.
    """
    make = {"adamw": adamw, "adamw8bit": adamw_8bit, "adafactor": adafactor, "prodigy": prodigy}[settings.name]
    return make(parameters, settings)


def adamw(parameters: Mapping[str, nn.Parameter], settings: OptimiserSettings) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019), fused."""
    return torch.optim.AdamW(
        list(parameters.values()), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )


def adamw_8bit(parameters: Mapping[str, nn.Parameter], settings: OptimiserSettings) -> torch.optim.Optimizer:
    """AdamW that keeps its averages in eight bits (Dettmers et al. 2022): a quarter of the memory of its state."""
    try:
        import bitsandbytes  # late, as it is an extra
    except ImportError:
        raise _missing("adamw8bit", "bitsandbytes", "quantize") from None
    made: torch.optim.Optimizer = bitsandbytes.optim.AdamW8bit(
        list(parameters.values()), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    return made


def adafactor(parameters: Mapping[str, nn.Parameter], settings: OptimiserSettings) -> torch.optim.Optimizer:
    """Adafactor (Shazeer and Stern 2018) with our own step sizes: of each matrix it keeps two vectors.

    The paper's relative steps are multiplied by a weight's own size, so a LoRA, which begins at nothing, would stay.
    """
    from transformers.optimization import Adafactor  # late: half a second, and few runs want it

    made: torch.optim.Optimizer = Adafactor(
        list(parameters.values()),
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        scale_parameter=False,
        relative_step=False,
        warmup_init=False,
    )
    return made


def prodigy(parameters: Mapping[str, nn.Parameter], settings: OptimiserSettings) -> torch.optim.Optimizer:
    """Prodigy (Mishchenko and Defazio 2024): finds its step size, of which the recipe's is a multiple."""
    try:
        from prodigyopt import Prodigy  # late, as it is an extra
    except ImportError:
        raise _missing("prodigy", "prodigyopt", "prodigy") from None
    made: torch.optim.Optimizer = Prodigy(
        list(parameters.values()),
        lr=settings.learning_rate,
        # As its authors advise for diffusion models.
        use_bias_correction=True,
        safeguard_warmup=settings.warmup_steps > 0,
    )
    made.param_groups[0]["weight_decay"] = settings.weight_decay  # told later, as it would print that it heard
    return made


def _missing(name: str, library: str, extra: str) -> UsageError:
    return UsageError(
        f"The optimiser {name} needs {library}, which is not installed.", f"pip install 'rs-studio[{extra}]'"
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
    """The optimiser's state: of each weight under `optimiser.<name>.<what>`, its own under `optimiser#group.<what>`.

    Numbers become tensors of one value, whose name ends with what they were.
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        tensors |= _plain(f"optimiser.{name}", optimiser.state.get(parameter, {}))
    group = optimiser.param_groups[0]
    return tensors | _plain("optimiser#group", {what: group[what] for what in _FOUND if what in group})


def restore(
    optimiser: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    by_place: dict[str, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        place, _, what = name.rpartition(".")
        what, _, number = what.partition("#")
        by_place.setdefault(place, {})[what] = _NUMBERS[number](tensor.item()) if number else tensor
    for name, parameter in parameters.items():
        state = by_place.get(f"optimiser.{name}", {})
        if state:
            optimiser.state[parameter] = {what: _beside(parameter, value) for what, value in state.items()}
    optimiser.param_groups[0].update(by_place.get("optimiser#group", {}))


def _beside(parameter: nn.Parameter, value: Any) -> Any:
    """A value of the state where its parameter lies, and laid out as that is: fused kernels go through both at once."""
    if not isinstance(value, Tensor):
        return value
    if value.shape != parameter.shape:
        return value.to(parameter.device)
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _plain(place: str, state: Mapping[str, Any]) -> dict[str, Tensor]:
    tensors = {}
    for what, value in state.items():
        if isinstance(value, Tensor):
            tensors[f"{place}.{what}"] = value
        elif type(value) in _NUMBERS.values():
            exact = torch.int64 if isinstance(value, int) else torch.float64
            tensors[f"{place}.{what}#{type(value).__name__}"] = torch.tensor([value], dtype=exact)
    return tensors
