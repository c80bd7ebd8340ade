"""What a run will take in memory and time, before it begins; without torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path

from studio import config
from studio.devices import cpu_load, cpu_threads, gpu_loads
from studio.errors import UsageError
from studio.models.registry import ModelRef, resolve
from studio.runs import state_of
from studio.settings import FullMethod, LoraMethod, TrainSettings
from studio.training.arithmetic import Shapes, components, cost, lora_parameters, parameters, weight_shapes
from studio.training.recipes import Amount, amount
from studio.workspace import Workspace, numbered_folders

# Bytes that each trained number needs beside itself (fp32): its gradient and what the optimiser remembers of it.
_OPTIMISER_BYTES = {"adamw": 12, "adamw8bit": 6, "adafactor": 4.1, "prodigy": 20}
# Bytes kept for the way back, for each number that goes into or comes out of a layer of the UNet. Saved tensors of the
# shapes of SD 1.5 and SDXL under CPU autocast come to 1.8 to 2.0; CUDA's autocast keeps norms' outputs in fp32.
_ACTIVATION_BYTES = {"fp32": 6.0, "bf16": 4.0, "fp16": 4.0}
_CHECKPOINTED = 0.2  # share of them that gradient checkpointing keeps, with the block that is computed again
_OVERHEAD_BYTES = 700 * 2**20  # CUDA's own, and its libraries'
# Usual dense bf16 (or fp16) rates by their makers' data sheets, in 10^12 a second; a part of it is reached.
_PEAKS = {"B200": 2250, "H200": 989, "H100": 989, "A100": 312, "L40": 181, "4090": 165, "A6000": 155, "A10": 125,
          "V100": 125, "3090": 71, "T4": 65, "3060": 25}  # fmt: skip
_REACHED = 0.25
_UNKNOWN_GPU, _CPU_THREAD = 10e12, 40e9
_SLOWER_FP32 = 0.5
_TIMED_STEPS = 3
"""Steps of a run from which its pace can be told."""


@dataclass(frozen=True)
class Needs:
    """Bytes on the device: what every run of these settings holds, and what each picture at once adds."""

    fixed_bytes: float
    picture_bytes: float


@dataclass(frozen=True)
class Estimate:
    """What a run is expected to take; times and memory are figures of an order, not promises."""

    amount: Amount
    steps: int
    effective_batch: int
    micro_batch: int
    trained_parameters: int
    all_parameters: int
    memory_bytes: float
    memory_total_bytes: float
    seconds: float
    pace: str
    """Where the time comes from: another run on this device, or a guess."""

    @property
    def epochs(self) -> float:
        return self.steps * self.effective_batch / max(self.amount.training, 1)


def estimate(workspace: Workspace, settings: TrainSettings, device: str) -> Estimate | None:
    """What a run would take; None for methods that make their network themselves, or a model that is not here yet."""
    if not isinstance(settings.method, LoraMethod | FullMethod):
        return None
    parts = _parts_here(workspace, settings)
    if parts is None:
        return None
    found = amount(workspace, settings)
    optimiser = settings.optimiser
    effective = optimiser.effective_batch
    needs = needed(parts, settings, device)
    free, total = memory_of(device)
    # On a CPU the batch itself, since larger ones gain nothing there.
    planned = planned_micro_batch(needs, free, effective) if device.startswith("cuda") else optimiser.batch
    micro = optimiser.micro_batch or planned
    trained = trained_parameters(parts["unet"], settings)
    rate, pace = _rate(workspace, settings, device)
    work = optimiser.steps * effective * step_flops(parts["unet"], settings, cells(parts["vae"], settings))
    encoded = min(found.training * len(settings.data.orientations), optimiser.steps * effective)
    work += encoded * cost(parts["vae"], settings.data.size_px, "encoder.").flops
    return Estimate(
        found,
        optimiser.steps,
        effective,
        micro,
        trained,
        parameters(parts["unet"]),
        needs.fixed_bytes + micro * needs.picture_bytes,
        total,
        work / rate,
        pace,
    )


def needs_of(workspace: Workspace, settings: TrainSettings, device: str) -> Needs | None:
    """Memory of a run; None where `estimate` is."""
    parts = _parts_here(workspace, settings)
    return needed(parts, settings, device) if parts else None


def planned_micro_batch(needs: Needs, free_bytes: float, rows: int) -> int:
    """Pictures that go through the UNet at once on a GPU: all rows of a step if there is room, else even passes.

    A last small pass costs as much time as a large one. Where the plan is wrong, training halves it and goes on.
    """
    room = int((0.9 * free_bytes - needs.fixed_bytes) / needs.picture_bytes)
    return ceil(rows / ceil(rows / max(min(room, rows), 1)))


def needed(parts: Mapping[str, Shapes], settings: TrainSettings, device: str = "cuda") -> Needs:
    """Memory of a LoRA or full fine-tune, from the shapes of the model's parts."""
    optimiser, unet = settings.optimiser, parts["unet"]
    trained = trained_parameters(unet, settings)
    is_full = isinstance(settings.method, FullMethod)
    half = optimiser.precision != "fp32"
    # Frozen weights are held in half precision; trained ones in fp32, with a half copy while they compute.
    base = parameters(unet) * ((6 if half else 4) if is_full else (2 if half else 4))
    # Frozen text encoders too, on a GPU; the autoencoder stays in fp32.
    learns_text = isinstance(settings.method, LoraMethod) and settings.method.text_encoder
    of_text = 2 if half and device.startswith("cuda") and not learns_text else 4
    others = sum(
        parameters(shapes) * (of_text if name.startswith("text_encoder") else 4)
        for name, shapes in parts.items()
        if name != "unet"
    )
    learnt = trained * (_OPTIMISER_BYTES[optimiser.name] + (4 if optimiser.ema else 0) + (0 if is_full else 4))
    share = _CHECKPOINTED if optimiser.gradient_checkpointing else 1.0
    numbers = cost(unet, cells(parts["vae"], settings)).activations
    return Needs(base + others + learnt + _OVERHEAD_BYTES, numbers * _ACTIVATION_BYTES[optimiser.precision] * share)


def trained_parameters(unet: Shapes, settings: TrainSettings) -> int:
    method = settings.method
    return lora_parameters(unet, method.targets, method.rank) if isinstance(method, LoraMethod) else parameters(unet)


def step_flops(unet: Shapes, settings: TrainSettings, side: int) -> float:
    """Arithmetic of one picture there and back: a LoRA needs no gradients of the weights that stay as they are."""
    passes = 3.0 if isinstance(settings.method, FullMethod) else 2.1
    return cost(unet, side).flops * (passes + settings.optimiser.gradient_checkpointing)


def cells(vae: Shapes, settings: TrainSettings) -> int:
    """Side of the latent, in cells."""
    halvings = sum(name.startswith("encoder.") and name.endswith(".downsamplers.0.conv.weight") for name in vae)
    return int(settings.data.size_px / 2**halvings)


def memory_of(device: str) -> tuple[float, float]:
    """Free and total bytes of a device, as the driver says."""
    load = next((gpu for gpu in gpu_loads() if gpu.name == device), None) if device.startswith("cuda") else cpu_load()
    return (load.memory_total_bytes - load.memory_used_bytes, load.memory_total_bytes) if load else (0.0, 0.0)


def _parts_here(workspace: Workspace, settings: TrainSettings) -> dict[str, Shapes] | None:
    try:
        parts = _parts(resolve(workspace, settings.base))
    except UsageError:
        return None
    return parts if "unet" in parts and "vae" in parts else None


def _parts(ref: ModelRef) -> dict[str, Shapes]:
    found: dict[str, Shapes] = dict(components(ref.folder))
    return found | ({"unet": weight_shapes(ref.unet_folder)} if ref.unet else {})


def _rate(workspace: Workspace, settings: TrainSettings, device: str) -> tuple[float, str]:
    """Arithmetic a second, and where the figure comes from: the newest run like this one, else the device's name."""
    for run in reversed(numbered_folders(workspace.runs)):
        rate = _rate_of_run(workspace, run, settings, device)
        if rate:
            return rate, f"at the pace of {run.name}"
    slower = _SLOWER_FP32 if settings.optimiser.precision == "fp32" else 1.0
    if not device.startswith("cuda"):
        threads = cpu_threads(config.load(workspace.settings_path, config.WorkspaceSettings).cpu_threads)
        return threads * _CPU_THREAD * slower, "a guess, as no run like it was timed here"
    label = next((gpu.label for gpu in gpu_loads() if gpu.name == device), "")
    peak = next((peak * 1e12 * _REACHED for name, peak in _PEAKS.items() if name in label), _UNKNOWN_GPU)
    return peak * slower, f"a guess from the name of {label or device}"


def _rate_of_run(workspace: Workspace, run: Path, like: TrainSettings, device: str) -> float:
    try:
        state = state_of(run)
        told = config.read_toml(run / "config.toml")
        settings = config.check(told["settings"], TrainSettings, run.name)
        if state.step - state.from_step < _TIMED_STEPS or state.device != device:
            return 0.0
        if not state.seconds_per_step or settings.method.name != like.method.name:
            return 0.0
        if settings.optimiser.precision != like.optimiser.precision:
            return 0.0
        parts = _parts(resolve(workspace, settings.base))
    except (UsageError, KeyError):
        return 0.0
    effective = settings.optimiser.effective_batch
    return step_flops(parts["unet"], settings, cells(parts["vae"], settings)) * effective / state.seconds_per_step
