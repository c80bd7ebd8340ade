from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    UniPCMultistepScheduler,
)

from studio.errors import UsageError
from studio.generation.samplers import make_scheduler, own_sampler, sample, tile_noise
from studio.models.load import DiffusionModel, load_model
from studio.models.registry import ModelRef

STOCK = {
    "pndm": PNDMScheduler,
    "dpm++2m": DPMSolverMultistepScheduler,
    "unipc": UniPCMultistepScheduler,
    "ddim": DDIMScheduler,
    "euler": EulerDiscreteScheduler,
}
PROMPT, NEGATIVE = "a river through farmland", "clouds"
STEPS = 5


@pytest.fixture(scope="module")
def narrow_model(narrow: Path) -> DiffusionModel:
    return load_model(ModelRef("narrow", narrow), "cpu")


@pytest.fixture(scope="module")
def narrow_pipeline(narrow: Path) -> StableDiffusionPipeline:
    return stock_pipeline(narrow)


def stock_pipeline(folder: Path) -> StableDiffusionPipeline:
    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def noise_for(model: DiffusionModel, seed: int = 7) -> torch.Tensor:
    cells = model.native_size_px // model.reduction
    return tile_noise(seed, (int(model.unet.config.in_channels), cells, cells))


def ours(model: DiffusionModel, sampler: str, guidance: float) -> tuple[torch.Tensor, np.ndarray]:
    with torch.inference_mode():
        texts = model.embed([PROMPT]), model.embed([NEGATIVE])
        latents = sample(model, *texts, noise_for(model), sampler, STEPS, guidance)
        return latents, model.decode(latents).permute(0, 2, 3, 1).numpy()


def stock(pipeline: StableDiffusionPipeline, noise: torch.Tensor, guidance: float) -> tuple[torch.Tensor, np.ndarray]:
    told: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_scale": guidance, "latents": noise}
    latents = pipeline(PROMPT, negative_prompt=NEGATIVE, output_type="latent", **told).images
    with torch.inference_mode():
        decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    images = pipeline.image_processor.postprocess(decoded, output_type="pil")
    return latents, np.stack([np.asarray(image) for image in images])


def assert_alike(mine: tuple[torch.Tensor, np.ndarray], theirs: tuple[torch.Tensor, np.ndarray]) -> None:
    assert (mine[0] - theirs[0]).abs().max() < 1e-4 * theirs[0].abs().max()
    assert np.abs(mine[1].astype(int) - theirs[1]).max() <= 1
    assert mine[1].std() > 1  # not one grey field on both sides


@pytest.mark.parametrize(("sampler", "guidance"), [*((sampler, 7.5) for sampler in STOCK), ("pndm", 1.0)])
def test_our_loop_is_the_stock_pipelines(
    sampler: str,
    guidance: float,
    narrow: Path,
    narrow_model: DiffusionModel,
    narrow_pipeline: StableDiffusionPipeline,
) -> None:
    narrow_pipeline.scheduler = STOCK[sampler].from_pretrained(narrow / "scheduler", local_files_only=True)
    assert_alike(ours(narrow_model, sampler, guidance), stock(narrow_pipeline, noise_for(narrow_model), guidance))


def test_a_v_network_is_sampled_as_the_stock_pipeline_does(
    narrow: Path, narrow_model: DiffusionModel, narrow_pipeline: StableDiffusionPipeline
) -> None:
    model = DiffusionModel(**{**vars(narrow_model), "objective": "v"})
    narrow_pipeline.scheduler = DDIMScheduler.from_pretrained(narrow / "scheduler", prediction_type="v_prediction")
    mine, theirs = ours(model, "ddim", 3.0), stock(narrow_pipeline, noise_for(model), 3.0)
    assert_alike(mine, theirs)
    assert not torch.allclose(mine[0], ours(narrow_model, "ddim", 3.0)[0], atol=0.01)


def test_the_starter_is_sampled_as_the_stock_pipeline_does(starter: Path) -> None:
    model, pipeline = load_model(ModelRef("starter", starter), "cpu"), stock_pipeline(starter)
    assert own_sampler(model.scheduler) == "dpm++2m"
    assert_alike(ours(model, "dpm++2m", 2.5), stock(pipeline, noise_for(model), 2.5))


def test_a_run_that_leaves_flow_behind_leaves_its_noise_levels_behind_too(tiny_flow: Path, tiny_epsilon: Path) -> None:
    model = load_model(ModelRef("tiny", tiny_flow, objective="epsilon"), "cpu")
    stays = load_model(ModelRef("tiny", tiny_epsilon), "cpu")
    for sampler in STOCK:
        mine, theirs = make_scheduler(sampler, model), make_scheduler(sampler, stays)
        mine.set_timesteps(4)
        theirs.set_timesteps(4)
        assert torch.equal(mine.timesteps, theirs.timesteps)
        assert mine.config.get("use_flow_sigmas", False) is False
        assert mine.config.prediction_type == "epsilon"


def test_an_unknown_sampler_is_named(tiny_flow: Path) -> None:
    with pytest.raises(UsageError, match="pndm, dpm\\+\\+2m, unipc, ddim, euler"):
        make_scheduler("heun", load_model(ModelRef("tiny", tiny_flow), "cpu"))


class Knowing:
    """In place of a UNet: it knows the picture that its text asks for, and so the exact velocity towards it."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        self.given: list[tuple[torch.Tensor, float]] = []

    def __call__(self, latents: torch.Tensor, time: Any, encoder_hidden_states: torch.Tensor) -> SimpleNamespace:
        sigma = float(time) / 1000
        self.given.append((latents, sigma))
        target = encoder_hidden_states.mean(dim=(1, 2)).view(-1, 1, 1, 1)
        return SimpleNamespace(sample=(latents - target) / sigma)  # x = (1 - σ)·x₀ + σ·n, so n - x₀ = (x - x₀)/σ


def knowing_model() -> DiffusionModel:
    empty: Any = None
    unet: Any = Knowing()
    return DiffusionModel(unet, empty, empty, empty, {}, "flow")


@pytest.mark.parametrize("sampler", STOCK)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_every_sampler_follows_a_flow_to_its_end(sampler: str, guidance: float) -> None:
    """Where every step gets the exact answer, the last latent is the picture, on a diffusion's noise levels too."""
    wanted, away = torch.full((2, 5, 3), 0.8), torch.full((2, 5, 3), 0.2)
    noise = torch.cat([tile_noise(seed, (4, 6, 6)) for seed in (1, 2)])
    latents = sample(knowing_model(), wanted, away, noise, sampler, 20, guidance)
    # Guidance goes from what is steered away from, through what is wanted, and on: 0.2 + 3·(0.8 - 0.2).
    aim = 0.8 if guidance == 1 else 0.2 + 3 * 0.6
    assert latents.mean() == pytest.approx(aim, abs=0.02)
    assert latents.std() < 0.08


def test_a_flow_network_gives_the_exact_noise_of_a_diffusion() -> None:
    from studio.generation.samplers import _epsilon_of_flow

    model = knowing_model()
    scheduler = make_scheduler("ddim", model)
    picture, noise = torch.full((1, 4, 6, 6), 0.5), tile_noise(3, (4, 6, 6))
    for step in (1, 250, 500, 981):
        time = torch.tensor(step)
        noised = scheduler.add_noise(picture, noise, time)
        epsilon = _epsilon_of_flow(model, scheduler, noised, time, torch.full((1, 5, 3), 0.5), guided=False)
        assert torch.allclose(epsilon, noise, atol=2e-3)
        unet: Any = model.unet
        given, sigma = unet.given[-1]
        assert torch.allclose(given, (1 - sigma) * picture + sigma * noise, atol=1e-5)


def test_each_step_is_told(tiny_flow: Path) -> None:
    told: list[tuple[int, int]] = []
    model = load_model(ModelRef("tiny", tiny_flow), "cpu")
    text = model.embed(["one river"])
    sample(model, text, text, noise_for(model), "euler", 3, 1.0, lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_the_noise_of_a_tile_is_its_seeds_alone() -> None:
    assert torch.equal(tile_noise(5, (4, 8, 8)), tile_noise(5, (4, 8, 8)))
    assert not torch.equal(tile_noise(5, (4, 8, 8)), tile_noise(6, (4, 8, 8)))
    assert tile_noise(2**63 + 5, (4, 8, 8)).shape == (1, 4, 8, 8)
