"""How far the studio's loss lies from the peer scripts' for the same pictures, flips, noise, times and captions.

    python benchmarks/loss_equality.py --config SD15 [--steps 6]

The studio's side is its own trainer, with caches. The other side is written here as diffusers' examples do it, without
caches and in fp32: at each step the picture is read, flipped and encoded, noised by DDPMScheduler, and the caption
embedded. Weights stay as they are. Prints the largest absolute difference of a step's mean loss, as JSON: from the
script's with each picture encoded for itself, and with the batch encoded together, as the script does, which rounds
otherwise on some CPUs.
"""

import argparse
import json
import tempfile
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from sides import Bench, Shape, own_settings, set_up
from torch import Tensor

from studio import requests
from studio.context import Context
from studio.control import Control
from studio.settings import D4, TrainSettings
from studio.training.batches import noise_generator
from studio.training.diffusion import Diffusion
from studio.training.objective import draw_timesteps
from studio.training.opening import open_diffusion

VARIANTS = {"full, fp32": ("full", "fp32"), "full, bf16": ("full", "bf16"), "lora, bf16": ("lora", "bf16")}


class ScriptArithmetic:
    """The parts of a model as diffusers' training examples load and use them."""

    def __init__(self, model: Path, size_px: int) -> None:
        self._folder, self._size_px = model, size_px

    @cached_property
    def _parts(self) -> tuple[Any, Any, Any, Any, Any]:
        from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTokenizer

        return tuple(
            kind.from_pretrained(self._folder, subfolder=name)
            for kind, name in (
                (AutoencoderKL, "vae"),
                (CLIPTokenizer, "tokenizer"),
                (CLIPTextModel, "text_encoder"),
                (UNet2DConditionModel, "unet"),
                (DDPMScheduler, "scheduler"),
            )
        )  # type: ignore[return-value]

    def pixels(self, path: Path, is_flipped: bool) -> Tensor:
        from PIL import Image
        from torchvision import transforms
        from torchvision.transforms import functional

        prepared = transforms.Compose(
            [
                transforms.Resize(self._size_px, interpolation=transforms.InterpolationMode.LANCZOS),
                transforms.CenterCrop(self._size_px),
                functional.hflip if is_flipped else transforms.Lambda(lambda image: image),
                transforms.ToTensor(),
                transforms.Normalize([0.5], [0.5]),
            ]
        )
        result: Tensor = prepared(Image.open(path).convert("RGB"))
        return result

    @torch.no_grad()
    def latents(self, pixels: Tensor, drawn: Tensor, together: int) -> Tensor:
        """Scaled draws from the encoder's Gaussian, by the noise `drawn`; of so many pictures encoded together."""
        vae = self._parts[0]
        parts = [vae.encode(some).latent_dist for some in pixels.split(together)]
        mean, deviation = (torch.cat([getattr(part, name) for part in parts]) for name in ("mean", "std"))
        scaled: Tensor = (mean + deviation * drawn) * vae.config.scaling_factor
        return scaled

    @torch.no_grad()
    def loss(self, latents: Tensor, captions: list[str], noise: Tensor, steps: Tensor) -> float:
        """Mean squared error of a batch."""
        _, tokenizer, text_encoder, unet, scheduler = self._parts
        noisy = scheduler.add_noise(latents, noise, steps)
        tokens = tokenizer(
            captions, max_length=tokenizer.model_max_length, padding="max_length", truncation=True, return_tensors="pt"
        )
        states = text_encoder(tokens.input_ids, return_dict=False)[0]
        predicted = unet(noisy, steps, states, return_dict=False)[0]
        return float(torch.nn.functional.mse_loss(predicted.float(), noise.float(), reduction="mean"))


def open_task(bench: Bench, shape: Shape) -> Diffusion:
    """The studio's trainer with its caches filled."""
    settings = TrainSettings.model_validate(own_settings(bench, shape))
    job = requests.train_job(bench.workspace, settings, requests.free_run_name(bench.workspace, shape.method))
    task = open_diffusion(
        Context(bench.workspace, job.folder, settings, "cpu", lambda event: None, Control()), settings
    )
    task.prepare()
    task.encode(range(shape.steps))
    return task


@torch.no_grad()
def losses(task: Diffusion, script: ScriptArithmetic, step: int) -> tuple[float, float, float]:
    """Of one step: the studio's, and the script's on what the studio drew, encoded one by one and together."""
    chosen = task.draws(step)
    own = float(task.loss(step, range(len(chosen))))
    pictures = task.training
    pixels = torch.stack(
        [
            script.pixels(pictures.dataset.path(pictures.pictures[draw.picture]), draw.orientation == D4.index("flip"))
            for draw in chosen
        ]
    )
    generator = noise_generator(task.settings.seed, step)
    cells = pixels.shape[-1] // task.model.reduction
    shape = (len(chosen), int(task.model.unet.config.in_channels), cells, cells)
    drawn, noise = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    times = (draw_timesteps(task.objective, len(chosen), generator) * len(task.alphas)).long()
    captions = [pictures.caption(draw) for draw in chosen]
    alone, together = (
        script.loss(script.latents(pixels, drawn, count), captions, noise, times) for count in (1, len(chosen))
    )
    return own, alone, together


def largest_differences(bench: Bench, size_px: int, steps: int) -> dict[str, dict[str, float]]:
    """For each variant the largest difference over the steps, and the mean loss that it is a difference of."""
    script = ScriptArithmetic(bench.model, size_px)
    found = {}
    for name, (method, precision) in VARIANTS.items():
        task = open_task(bench, Shape(method, steps, size_px, precision=precision))
        found_at = [losses(task, script, step) for step in range(steps)]
        found[name] = {
            "largest_difference": max(abs(own - alone) for own, alone, _ in found_at),
            "largest_difference_encoded_together": max(abs(own - together) for own, _, together in found_at),
            "mean_loss": sum(together for *_, together in found_at) / steps,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="a Stable Diffusion 1.5 folder; weights not needed")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--tiles", type=int, default=40)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        bench = set_up(Path(temporary), args.config, args.tiles, 256)
        print(json.dumps(largest_differences(bench, 256, args.steps)))


if __name__ == "__main__":
    main()
