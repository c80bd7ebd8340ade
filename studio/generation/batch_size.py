"""How many tiles are made together, and whether compiling the network repays its minute."""

import json
from pathlib import Path

import torch

from studio import files
from studio.generation.provenance import Sampling
from studio.models.load import DiffusionModel

ON_CPU = 8  # a CPU is bound by arithmetic, which more together do not make less
MOST = 256
_TOGETHER = "together.json"
_SHARE_OF_FREE = 0.8
_COMPILING_SECONDS = 60.0
# fal-ai/stable-diffusion-benchmarks, SD 1.5 on an A100: 1.354 s compiled for 1.604 s eager.
_SHARE_SAVED = 0.15


def planned_batch(model: DiffusionModel, sampling: Sampling, wanted: int) -> int:
    """As many tiles as fit in four fifths of the free memory, by what one of them takes."""
    if sampling.is_made_alone:
        return 1
    if model.device.type != "cuda":
        return min(ON_CPU, max(wanted, 1))
    taken_bytes, free_bytes = _bytes_of_one(model, sampling)
    return max(1, min(MOST, wanted, int(_SHARE_OF_FREE * free_bytes / taken_bytes)))


@torch.inference_mode()
def _bytes_of_one(model: DiffusionModel, sampling: Sampling) -> tuple[int, int]:
    """What one tile takes at most, in the network (twice where it is guided) and in the decoder; and what is free."""
    device = model.device
    cells = (sampling.height_px // model.reduction, sampling.width_px // model.reduction)
    text = model.embed(["", ""])
    latents = torch.zeros((2, int(model.unet.config.in_channels), *cells), device=device, dtype=model.unet.dtype)
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    model.predict(latents, 500.0, text.to(model.unet.dtype))
    model.decode(latents[:1])
    taken = torch.cuda.max_memory_allocated(device) - before
    free, _ = torch.cuda.mem_get_info(device)
    return max(taken, 1), free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def remember_batch(folder: Path, batch: int) -> None:
    """Let whoever goes on with a batch make the same tiles together."""
    files.write_json(folder / _TOGETHER, {"batch": batch})


def recalled_batch(folder: Path) -> int:
    """How many tiles were made together here, 0 where nobody said."""
    try:
        return max(0, int(json.loads((folder / _TOGETHER).read_text("utf-8"))["batch"]))
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def compiling_repays(seconds_of_a_batch: float, batches_left: int) -> bool:
    return seconds_of_a_batch * batches_left * _SHARE_SAVED > _COMPILING_SECONDS
