"""From noise to latents, by the samplers' usual names, for networks that predict epsilon, v or flow."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from studio.errors import UsageError, unknown
from studio.generation.guidance import Predict, guided
from studio.generation.linear_multistep import LinearMultistepScheduler
from studio.models.load import PREDICTION_TYPES, Conditioning, DiffusionModel


@dataclass(frozen=True)
class SamplerKind:
    """What diffusers calls a sampler."""

    scheduler: Any
    steps: int
    """Steps that are usual for it."""
    options: dict[str, Any] = field(default_factory=dict)
    """What sets it apart from others of the same scheduler."""
    flow: Any = None
    """The scheduler for flow networks, where there is one; others are sampled on a diffusion's noise levels."""
    guidance: float | None = None
    """What it needs, where that is not what others need."""

    @property
    def scheduler_names(self) -> set[str]:
        """Its scheduler's name, those that it derives from, and the one for flow."""
        kinds = [*self.scheduler.__mro__, *([self.flow] if self.flow else [])]
        return {kind.__name__ for kind in kinds}


_FLOW_SIGMAS = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
_DPM, _KARRAS, _SDE = DPMSolverMultistepScheduler, {"use_karras_sigmas": True}, {"algorithm_type": "sde-dpmsolver++"}
SAMPLERS: dict[str, SamplerKind] = {
    "pndm": SamplerKind(PNDMScheduler, 50),
    "ddim": SamplerKind(DDIMScheduler, 50),
    "dpm++2m": SamplerKind(_DPM, 25, flow=_DPM),
    "dpm++2m-karras": SamplerKind(_DPM, 25, _KARRAS),
    "dpm++2m-sde": SamplerKind(_DPM, 25, _SDE),
    "dpm++2m-sde-karras": SamplerKind(_DPM, 25, _SDE | _KARRAS),
    "dpm++sde": SamplerKind(DPMSolverSinglestepScheduler, 25, _SDE),
    "unipc": SamplerKind(UniPCMultistepScheduler, 20, flow=UniPCMultistepScheduler),
    "euler": SamplerKind(EulerDiscreteScheduler, 30, flow=FlowMatchEulerDiscreteScheduler),
    "euler-a": SamplerKind(EulerAncestralDiscreteScheduler, 30),
    "heun": SamplerKind(HeunDiscreteScheduler, 20, flow=FlowMatchHeunDiscreteScheduler),
    "lms": SamplerKind(LinearMultistepScheduler, 30),
    "lcm": SamplerKind(LCMScheduler, 6, guidance=1.5),  # Luo et al. 2023: guided in training, burnt out by more
}
_NEAREST = {
    "DDPMScheduler": "ddim",
    "DEISMultistepScheduler": "unipc",
    "DPMSolverSDEScheduler": "dpm++sde",
    "DPMSolverSinglestepScheduler": "dpm++2m",
    "KDPM2AncestralDiscreteScheduler": "euler-a",
    "KDPM2DiscreteScheduler": "heun",
}
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

_RUNGE_KUTTA_STEPS = 4  # with which PNDM begins unless its settings say to skip them

EachStep = Callable[[int, int], None]


@dataclass(frozen=True)
class Start:
    """A picture to begin from, in place of noise alone (Meng et al. 2022, SDEdit)."""

    latents: Tensor
    """(1 or n, channels, height, width), scaled as the UNet sees them."""
    strength: float
    """Share of the steps that are done; 1 begins from noise alone."""
    mask: Tensor | None = None
    """(1, 1, height, width): 1 where cells are made anew, 0 where they stay (Lugmayr et al. 2022, eq. 8)."""


def own_sampler(scheduler: dict[str, Any]) -> str:
    """The sampler that a model's scheduler settings name, else the nearest, else PNDM."""
    fitting = _fitting(scheduler)
    # The one with the most options that are all as told; the plain one of a scheduler has none.
    most = max(fitting, key=lambda name: len(SAMPLERS[name].options), default="")
    return most or _NEAREST.get(str(scheduler.get("_class_name")), "pndm")


def is_its_own(sampler: str, scheduler: Mapping[str, Any]) -> bool:
    """Whether a sampler is just what a model's scheduler settings say."""
    wants_karras = bool(scheduler.get("use_karras_sigmas"))
    return sampler in _fitting(scheduler) and wants_karras == bool(SAMPLERS[sampler].options.get("use_karras_sigmas"))


def _fitting(scheduler: Mapping[str, Any]) -> list[str]:
    told = str(scheduler.get("_class_name"))
    same = [name for name, kind in SAMPLERS.items() if told in kind.scheduler_names]
    return [name for name in same if SAMPLERS[name].options.items() <= scheduler.items()]


def make_scheduler(sampler: str, model: DiffusionModel) -> Any:
    """A diffusers scheduler for a model.

    Raises:
        UsageError: there is no sampler of this name.
    """
    if sampler not in SAMPLERS:
        raise unknown("sampler", sampler, SAMPLERS)
    kind = SAMPLERS[sampler]
    if model.objective != "flow":
        # A base that predicted flow leaves its own noise levels behind where a run learns to predict another thing.
        known = {key: value for key, value in model.scheduler.items() if not key.startswith("_") and "flow" not in key}
        plain = {option: False for option in _KARRAS} | {"algorithm_type": "dpmsolver++"}
        told = {**known, **plain, **kind.options, "prediction_type": PREDICTION_TYPES[model.objective]}
        return kind.scheduler.from_config(told)
    shift = float(model.scheduler.get("flow_shift", 1.0))
    if kind.flow in (FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler):
        return kind.flow(shift=shift)
    if kind.flow is not None:
        return kind.flow(**_FLOW_SIGMAS, flow_shift=shift)
    return kind.scheduler.from_config({**_DIFFUSION, **kind.options, "prediction_type": "epsilon"})


@torch.inference_mode()
def sample(
    model: DiffusionModel,
    prompts: Conditioning,
    negative: Conditioning,
    noise: Tensor,
    sampler: str,
    steps: int,
    guidance: float,
    each_step: EachStep = lambda done, total: None,
    precision: torch.dtype = torch.float32,
    *,
    rescale: float = 0.0,
    generators: Sequence[torch.Generator] = (),
    start: Start | None = None,
    around: Callable[[Predict], Predict] = lambda predict: predict,
) -> Tensor:
    """Latents (n, channels, height, width) of prompts.

    Args:
        prompts: what n prompts become.
        negative: the same of what to steer away from.
        noise: (n, channels, height, width) standard normal.
        guidance: classifier-free guidance (Ho and Salimans 2022, eq. 6 with w + 1); 1 and below uses none.
        precision: of the arithmetic, where the weights are fp32.
        rescale: how far guidance's contrast is taken back (Lin et al. 2024, eq. 16).
        generators: one a tile, for samplers that add noise at each step.
        start: a picture to begin from.
        around: changes how a prediction for the whole is made, such as in windows.
    """
    scheduler = make_scheduler(sampler, model)
    if sampler == "pndm" and steps < _RUNGE_KUTTA_STEPS:
        scheduler.register_to_config(skip_prk_steps=True)
    with _named(sampler, steps):
        scheduler.set_timesteps(steps)
    first = _first_step(scheduler, steps, start)
    predict = around(guided(model, scheduler, prompts, negative, guidance, rescale, precision))
    own = list(generators) or [torch.Generator().manual_seed(row) for row in range(len(noise))]
    drawn = {"generator": own} if "generator" in inspect.signature(scheduler.step).parameters else {}
    noise = noise.to(model.device)
    latents = _first_latents(scheduler, noise, first, start)
    times = scheduler.timesteps[first:]
    for index, time in enumerate(times):
        scaled = scheduler.scale_model_input(latents, time) if hasattr(scheduler, "scale_model_input") else latents
        predicted = predict(scaled, time, first + index)
        with _named(sampler, steps):
            latents = scheduler.step(predicted, time, latents, **drawn).prev_sample
        if start is not None and start.mask is not None:
            is_last = index + 1 == len(times)
            kept = start.latents if is_last else _noised(scheduler, start.latents, noise, times[index + 1])
            latents = torch.where(start.mask > 0, latents, kept.to(latents.dtype))
        each_step(index + 1, len(times))
    return latents


@contextmanager
def _named(sampler: str, steps: int) -> Iterator[None]:
    """Say in words what diffusers' schedulers raise, each something else, where they cannot take so many steps."""
    try:
        yield
    except (ArithmeticError, AssertionError, IndexError, ValueError) as error:
        raise UsageError(
            f"{sampler} cannot take {steps} steps with this model.", "Choose another number of steps, or --sampler."
        ) from error


def _first_step(scheduler: Any, steps: int, start: Start | None) -> int:
    done = steps if start is None else max(1, int(steps * start.strength))
    first: int = (steps - done) * scheduler.order
    # Left alone, a scheduler looks for its place by the time, which the first steps of a shifted flow may share.
    is_unclear = bool((scheduler.timesteps[:1] == scheduler.timesteps[1:2]).any())
    if (first or is_unclear) and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    return first


def _first_latents(scheduler: Any, noise: Tensor, first: int, start: Start | None) -> Tensor:
    if start is None or start.strength >= 1:
        return noise * float(getattr(scheduler, "init_noise_sigma", 1.0))
    return _noised(scheduler, start.latents, noise, scheduler.timesteps[first])


def _noised(scheduler: Any, latents: Tensor, noise: Tensor, time: Tensor) -> Tensor:
    """Latents with as much noise as a sampler expects at a time."""
    latents, times = latents.expand_as(noise), time.reshape(1).to(noise.device)
    noised: Tensor
    if hasattr(scheduler, "scale_noise"):
        noised = scheduler.scale_noise(latents, times, noise)
    else:
        noised = scheduler.add_noise(latents, noise, times)
    return noised


def tile_noise(seed: int, shape: tuple[int, int, int]) -> Tensor:
    """The noise (1, channels, height, width) of one tile; the same on every device and in every batch."""
    return torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed))


def step_generator(seed: int, shape: tuple[int, int, int]) -> torch.Generator:
    """What a tile's later noise is drawn from: its seed's generator, after the first noise."""
    generator = torch.Generator().manual_seed(seed)
    torch.randn((1, *shape), generator=generator)
    return generator
