"""How much faster is a tile than with the stock pipeline, and how far is it from the stock pipeline's tile?

    python benchmarks/sampling_speed.py --config SD15_FOLDER [--sampler dpm++2m-karras] [--steps 30] [--precision bf16]
    python benchmarks/sampling_speed.py --model starter --size 64

Of SD15_FOLDER only the settings, tokenizer and scheduler are read; the model measured is a fifth as wide, with random
weights. With --model an existing one is measured: starter, or a folder in diffusers layout.

Prints as JSON: CPU seconds for one tile of StableDiffusionPipeline with PNDM, 50 steps, fp32, one at a time and as many
together as ours, and of ours, medians of interleaved rounds on one thread (`times_faster` is over the faster of the
two); and how far ours, and PNDM with half the steps, are from PNDM with 50 over the same noise: mean and worst pixel
(of 255), and distance in the shipped scene network's features over that between two seeds. A flow network is timed and
compared as the diffusion that it is too (PNDM knows no flow), on Stable Diffusion's noise levels; the stock pipeline
runs its own sampler then, which looks at the network once a step as PNDM does. On a GPU seconds are the clock's.
`--only rate` is of tiles a second, 1, 2, 4 … together until more are slower or do not fit, both sides at one setting.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, PNDMScheduler, StableDiffusionPipeline
from narrow_model import save_model

from studio.generation.guidance import epsilon_of_flow
from studio.generation.making import TileMaker
from studio.generation.plans import PlannedTile
from studio.generation.provenance import Sampling
from studio.measures.features import open_network
from studio.memory import is_out_of_memory
from studio.models.load import DTYPES, Conditioning, DiffusionModel, load_model
from studio.models.registry import ModelRef
from studio.workspace import STARTER

SUBJECTS = (
    "farmland",
    "a river",
    "a dense residential area",
    "a forest",
    "an airport",
    "a beach",
    "a desert",
    "a port",
)
VIEWS = ("a satellite image of {}", "an aerial view of {}", "{} seen from above", "many trees near {}")
MOST_TOGETHER = 256
PROMPTS = [view.format(subject) for view in VIEWS for subject in SUBJECTS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, help="a Stable Diffusion 1.5 folder of settings and tokenizer")
    parser.add_argument("--model", default="", help="starter, or a folder in diffusers layout")
    parser.add_argument("--size", type=int, default=256, help="side of a tile in pixels (256)")
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("--sampler", default="dpm++2m-karras")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--batch", type=int, default=8, help="tiles that ours makes together (8, as it plans on a CPU)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=32, help="prompts whose tiles are compared (32)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="+", choices=["speed", "distance", "rate"], default=["speed", "distance"])
    args = parser.parse_args()
    if not args.config and not args.model:
        parser.error("--config or --model is needed")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = STARTER if args.model == "starter" else Path(args.model)
        if not args.model:
            folder = save_model(args.config, Path(scratch))
        measures = {"speed": speed, "distance": distance, "rate": rate}
        print(json.dumps({name: measures[name](folder, args) for name in args.only}, indent=2))


def speed(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """CPU seconds for one tile, theirs and ours in turn."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    if load_model(ModelRef("measured", folder), "cpu").objective != "flow":  # PNDM knows no flow
        pipeline.scheduler = PNDMScheduler.from_config(pipeline.scheduler.config)
    pipeline.to(args.device)
    ours = maker(folder, args.precision, args.device, as_diffusion=True)

    def theirs(together: int, steps: int = 50) -> None:
        pipeline(
            PROMPTS[:together],
            num_inference_steps=steps,
            guidance_scale=args.guidance,
            height=args.size,
            width=args.size,
        )

    def mine() -> None:
        tiles = [tile(n) for n in range(args.batch)]
        ours.make(tiles, sampling(args, args.sampler, args.steps, args.precision))

    seconds: dict[str, list[float]] = {"stock": [], "stock_together": [], "ours": []}
    # What a process pays once: threads, kernels, the prompts' embeddings.
    mine()
    theirs(1, steps=2)
    for _ in range(args.rounds):
        seconds["stock"].append(seconds_of(lambda: theirs(1), args.device))
        seconds["stock_together"].append(seconds_of(lambda: theirs(args.batch), args.device) / args.batch)
        seconds["ours"].append(seconds_of(mine, args.device) / args.batch)
    alone, together, own = (statistics.median(seconds[side]) for side in seconds)
    setting = f"{args.sampler}, {args.steps} steps, {args.precision}, {args.batch} together"
    return {
        "stock": f"{type(pipeline.scheduler).__name__}, 50 steps, fp32",
        "ours": setting,
        "seconds_stock": round(alone, 3),
        "seconds_stock_together": round(together, 3),
        "seconds_ours": round(own, 3),
        "times_faster": round(min(alone, together) / own, 2),
        "rounds": {side: [round(value, 3) for value in values] for side, values in seconds.items()},
    }


def distance(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """How far from 50 steps of PNDM the same noise leads."""
    count = min(args.prompts, len(PROMPTS))
    exact = maker(folder, "fp32", args.device, as_diffusion=True)
    fast = maker(folder, args.precision, args.device, as_diffusion=True)

    def made(side: TileMaker, how: Sampling, seed: int = 0) -> np.ndarray:
        tiles = [tile(n, seed) for n in range(count)]
        parts = [tiles[start : start + args.batch] for start in range(0, count, args.batch)]
        return np.concatenate([side.make(part, how) for part in parts])

    of_50, of_25 = (made(exact, sampling(args, "pndm", steps, "fp32")) for steps in (50, 25))
    other = made(exact, sampling(args, "pndm", 25, "fp32"), seed=1)
    own = made(fast, sampling(args, args.sampler, args.steps, args.precision))
    network = open_network("scenes", args.device)
    features = {
        name: network(pixels) for name, pixels in (("50", of_50), ("25", of_25), ("own", own), ("other", other))
    }
    scale = float(np.linalg.norm(features["50"] - features["other"], axis=1).mean())

    def facts(pixels: np.ndarray, name: str) -> dict[str, float]:
        off = np.abs(pixels.astype(int) - of_50)
        far = np.linalg.norm(features[name] - features["50"], axis=1) / scale
        worst = int(off.max())
        return {
            "mean_pixel": round(float(off.mean()), 3),
            "worst_pixel": worst,
            "mean_features": round(float(far.mean()), 4),
            "worst_features": round(float(far.max()), 4),
        }

    return {"prompts": count, "pndm_25": facts(of_25, "25"), "ours": facts(own, "own")}


class AsDiffusion(DiffusionModel):
    """A flow network that answers as an epsilon network would."""

    def predict(
        self, latents: torch.Tensor, times: Any, text: Conditioning, frames: torch.Tensor | None = None
    ) -> torch.Tensor:
        levels = DDIMScheduler.from_config(self.scheduler).alphas_cumprod.numpy()
        ratios = np.log((1 - levels) / levels) / 2
        ratio = float(np.exp(np.interp(float(times), np.arange(len(ratios)), ratios)))

        def velocity(straight: torch.Tensor, time: float) -> torch.Tensor:
            return super(AsDiffusion, self).predict(straight.to(self.unet.dtype), time, text, frames).float()

        return epsilon_of_flow(velocity, latents.float(), ratio)


def maker(folder: Path, precision: str, device: str, as_diffusion: bool = False) -> TileMaker:
    model = load_model(ModelRef("measured", folder), device, DTYPES[precision])
    if as_diffusion and model.objective == "flow":
        levels = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
        scheduler = {**levels, "num_train_timesteps": 1000, "clip_sample": False, "set_alpha_to_one": False}
        parts = {one.name: getattr(model, one.name) for one in fields(model)}
        model = AsDiffusion(**parts | {"scheduler": scheduler | {"skip_prk_steps": True}, "objective": "epsilon"})
    return TileMaker(model, folder, 1, lambda event: None)


def tile(index: int, seed: int = 0) -> PlannedTile:
    return PlannedTile(index, PROMPTS[index], "", 1000 * seed + index, "")


def sampling(args: argparse.Namespace, sampler: str, steps: int, precision: str) -> Sampling:
    return Sampling(sampler, steps, args.guidance, args.size, args.size, precision)


def seconds_of(work: Callable[[], object], device: str) -> float:
    """Of the processor; on a GPU of the clock, until it has nothing left to do."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    began = clock()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - began


def rate(folder: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Tiles a second by how many are made together, ours and the stock pipeline's, both at the steps and precision."""
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, local_files_only=True, torch_dtype=DTYPES[args.precision]
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.to(args.device)
    ours, how = maker(folder, args.precision, args.device), sampling(args, args.sampler, args.steps, args.precision)

    def mine(count: int) -> None:
        ours.make([PlannedTile(n, PROMPTS[n % len(PROMPTS)], "", n, "") for n in range(count)], how)

    def theirs(count: int) -> None:
        prompts = [PROMPTS[n % len(PROMPTS)] for n in range(count)]
        told = {"guidance_scale": args.guidance, "height": args.size, "width": args.size}
        pipeline(prompts, num_inference_steps=args.steps, **told)

    return {name: best_rate(make, args.device) for name, make in (("ours", mine), ("stock", theirs))}


def best_rate(make: Callable[[int], object], device: str) -> dict[str, Any]:
    """Tiles a second for 1, 2, 4 … together, and the best, until more are slower or do not fit."""
    rates: dict[int, float] = {}
    count = 1
    while count <= MOST_TOGETHER and (len(rates) < 2 or rates[count // 2] > rates[count // 4]):
        try:
            make(count)  # kernels for this shape
            rates[count] = count / seconds_of(lambda count=count: make(count), device)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            break
        count *= 2
    best = max(rates, key=lambda one: rates[one])
    return {"best": best, "tiles_a_second": {one: round(value, 3) for one, value in rates.items()}}


if __name__ == "__main__":
    main()
