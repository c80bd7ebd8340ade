import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    PNDMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    UniPCMultistepScheduler,
)
from pydantic import ValidationError

from studio.errors import UsageError
from studio.generation.canvas import encoded
from studio.generation.choosing import chosen_sampling
from studio.generation.guidance import epsilon_of_flow, guided, noise_ratio, rescaled
from studio.generation.remarks import remarks
from studio.generation.samplers import (
    SAMPLERS,
    Start,
    is_its_own,
    make_scheduler,
    own_sampler,
    sample,
    step_generator,
    tile_noise,
)
from studio.models.load import Conditioning, DiffusionModel, load_model
from studio.models.registry import ModelRef
from studio.settings import MOST_STEPS, GenerateSettings

KARRAS, SDE = {"use_karras_sigmas": True}, {"algorithm_type": "sde-dpmsolver++"}
STOCK: dict[str, tuple[Any, dict[str, Any]]] = {
    "pndm": (PNDMScheduler, {}),
    "ddim": (DDIMScheduler, {}),
    "dpm++2m": (DPMSolverMultistepScheduler, {}),
    "dpm++2m-karras": (DPMSolverMultistepScheduler, KARRAS),
    "dpm++2m-sde": (DPMSolverMultistepScheduler, SDE),
    "dpm++2m-sde-karras": (DPMSolverMultistepScheduler, SDE | KARRAS),
    "dpm++sde": (DPMSolverSinglestepScheduler, SDE),
    "unipc": (UniPCMultistepScheduler, {}),
    "euler": (EulerDiscreteScheduler, {}),
    "euler-a": (EulerAncestralDiscreteScheduler, {}),
    "heun": (HeunDiscreteScheduler, {}),
    "lcm": (LCMScheduler, {}),
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


def stock_scheduler(sampler: str, folder: Path) -> Any:
    scheduler, options = STOCK[sampler]
    return scheduler.from_pretrained(folder / "scheduler", local_files_only=True, **options)


def noise_for(model: DiffusionModel, seed: int = 7) -> torch.Tensor:
    cells = model.native_size_px // model.reduction
    return tile_noise(seed, (int(model.unet.config.in_channels), cells, cells))


def ours(model: DiffusionModel, sampler: str, guidance: float, **other: Any) -> tuple[torch.Tensor, np.ndarray]:
    noise = noise_for(model)
    with torch.inference_mode():
        texts = model.embed([PROMPT]), model.embed([NEGATIVE])
        generators = [step_generator(7, tuple(noise.shape[1:]))]  # type: ignore[arg-type]
        latents = sample(model, *texts, noise, sampler, STEPS, guidance, generators=generators, **other)
        return latents, model.decode(latents).permute(0, 2, 3, 1).numpy()


def stock(pipeline: Any, guidance: float, **told: Any) -> tuple[torch.Tensor, np.ndarray]:
    """What a stock pipeline makes of a generator: first the noise comes from it, then what a sampler adds."""
    told |= {"num_inference_steps": STEPS, "guidance_scale": guidance, "generator": torch.Generator().manual_seed(7)}
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
    narrow_pipeline.scheduler = stock_scheduler(sampler, narrow)
    assert_alike(ours(narrow_model, sampler, guidance), stock(narrow_pipeline, guidance))


def test_every_sampler_but_one_is_compared_with_the_stock_pipeline() -> None:
    assert SAMPLERS.keys() - STOCK.keys() == {"lms"}  # the stock one needs scipy


def test_a_v_network_is_sampled_as_the_stock_pipeline_does(
    narrow: Path, narrow_model: DiffusionModel, narrow_pipeline: StableDiffusionPipeline
) -> None:
    model = replace(narrow_model, objective="v")
    narrow_pipeline.scheduler = DDIMScheduler.from_pretrained(narrow / "scheduler", prediction_type="v_prediction")
    mine, theirs = ours(model, "ddim", 3.0), stock(narrow_pipeline, 3.0)
    assert_alike(mine, theirs)
    assert not torch.allclose(mine[0], ours(narrow_model, "ddim", 3.0)[0], atol=0.01)


def test_the_starter_is_sampled_as_the_stock_pipeline_does(starter: Path) -> None:
    model, pipeline = load_model(ModelRef("starter", starter), "cpu"), stock_pipeline(starter)
    assert own_sampler(model.scheduler) == "dpm++2m"
    assert_alike(ours(model, "dpm++2m", 2.5), stock(pipeline, 2.5))


def test_a_run_that_leaves_flow_behind_leaves_its_noise_levels_behind_too(tiny_flow: Path, tiny_epsilon: Path) -> None:
    model = load_model(ModelRef("tiny", tiny_flow, objective="epsilon"), "cpu")
    stays = load_model(ModelRef("tiny", tiny_epsilon), "cpu")
    for sampler in SAMPLERS:
        mine, theirs = make_scheduler(sampler, model), make_scheduler(sampler, stays)
        mine.set_timesteps(4)
        theirs.set_timesteps(4)
        assert torch.equal(mine.timesteps, theirs.timesteps)
        assert mine.config.get("use_flow_sigmas", False) is False
        assert mine.config.prediction_type == "epsilon"


@pytest.mark.parametrize(
    ("scheduler", "sampler", "is_own"),
    [
        ({"_class_name": "DDIMScheduler"}, "ddim", True),
        ({"_class_name": "LMSDiscreteScheduler"}, "lms", True),
        ({"_class_name": "DPMSolverMultistepScheduler", "use_karras_sigmas": True}, "dpm++2m-karras", True),
        ({"_class_name": "DPMSolverMultistepScheduler", **SDE}, "dpm++2m-sde", True),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "euler", True),
        ({"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": True}, "euler", False),
        ({"_class_name": "DDPMScheduler"}, "ddim", False),
        ({"_class_name": "DEISMultistepScheduler"}, "unipc", False),
        ({"_class_name": "DPMSolverSinglestepScheduler", "algorithm_type": "dpmsolver++"}, "dpm++2m", False),
        ({"_class_name": "KDPM2AncestralDiscreteScheduler"}, "euler-a", False),
        ({"_class_name": "SchedulerOf2030"}, "pndm", False),
    ],
)
def test_a_models_scheduler_is_taken_or_the_nearest(scheduler: dict[str, Any], sampler: str, is_own: bool) -> None:
    assert own_sampler(scheduler) == sampler
    assert is_its_own(sampler, scheduler) == is_own


def test_another_sampler_than_the_models_own_is_told(narrow: Path) -> None:
    ref = ModelRef("narrow", narrow)
    model = load_model(ref, "cpu")

    def told(settings: GenerateSettings) -> list[str]:
        return [one.message for one in remarks(ref, model, settings, chosen_sampling(ref, model, settings), [])]

    assert told(GenerateSettings()) == []
    model.scheduler = {**model.scheduler, "_class_name": "DEISMultistepScheduler"}
    assert told(GenerateSettings()) == [
        "narrow names the sampler DEISMultistepScheduler, which is not known here; unipc takes its place."
    ]
    assert told(GenerateSettings(sampler="ddim")) == []


def test_lcm_is_guided_little_unless_somebody_says_otherwise(narrow: Path, tiny_flow: Path) -> None:
    lcm = GenerateSettings(sampler="lcm")
    sd15, flow = ModelRef("narrow", narrow), ModelRef("tiny", tiny_flow)
    assert chosen_sampling(sd15, load_model(sd15, "cpu"), lcm).guidance == 1.5
    asked = lcm.model_copy(update={"guidance": 4.0})
    assert chosen_sampling(sd15, load_model(sd15, "cpu"), asked).guidance == 4.0
    assert chosen_sampling(flow, load_model(flow, "cpu"), lcm).guidance == 2.5  # its studio.json says so


class TestStepsThatASamplerCannotTake:
    @pytest.mark.parametrize("sampler", MOST_STEPS)
    def test_are_refused_before_anything_is_made(self, sampler: Any) -> None:
        most = MOST_STEPS[sampler]
        assert GenerateSettings(sampler=sampler, steps=most).steps == most
        with pytest.raises(ValidationError, match=re.escape(f"{sampler} takes {most} steps at most")):
            GenerateSettings(sampler=sampler, steps=most + 1)

    def test_are_refused_for_a_models_own_sampler_too(self, narrow: Path) -> None:
        ref = ModelRef("narrow", narrow)
        with pytest.raises(UsageError, match="pndm takes 999 steps at most"):
            chosen_sampling(ref, load_model(ref, "cpu"), GenerateSettings(steps=1000))

    @pytest.mark.parametrize("sampler", SAMPLERS)
    @pytest.mark.parametrize("objective", ["epsilon", "flow"])
    def test_are_none_of_those_that_are_allowed(self, sampler: str, objective: str) -> None:
        model = knowing_model()
        if objective == "epsilon":
            unet: Any = OfNoise()
            model = replace(model, unet=unet, scheduler=dict(OfNoise.levels.config), objective="epsilon")
        text, noise = Conditioning(torch.full((1, 2, 3), 0.8)), tile_noise(1, (4, 2, 2))
        for steps in (1, 2, 3, 4, MOST_STEPS.get(sampler, 100)):
            assert torch.isfinite(sample(model, text, text, noise, sampler, steps, 1.0)).all()

    @pytest.mark.parametrize("sampler", ["dpm++2m", "unipc"])
    def test_are_not_those_of_a_shifted_flow(self, sampler: str) -> None:
        model = replace(knowing_model(), scheduler={"flow_shift": 12.0})
        wanted = Conditioning(torch.full((1, 5, 3), 0.8))
        latents = sample(model, wanted, wanted, tile_noise(1, (4, 6, 6)), sampler, 400, 1.0)
        assert latents.mean() == pytest.approx(0.8, abs=0.03)

    def test_are_told_in_words_where_they_come_from_a_recipe(self) -> None:
        text, noise = Conditioning(torch.full((1, 2, 3), 0.8)), tile_noise(1, (4, 2, 2))
        with pytest.raises(UsageError, match="lcm cannot take 99 steps with this model"):
            sample(knowing_model(), text, text, noise, "lcm", 99, 1.0)


def test_an_unknown_sampler_is_named(tiny_flow: Path) -> None:
    with pytest.raises(UsageError, match="no sampler named k_euler"):
        make_scheduler("k_euler", load_model(ModelRef("tiny", tiny_flow), "cpu"))


class Knowing:
    """In place of a UNet: it knows the picture that its text asks for, and so the exact velocity towards it."""

    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self) -> None:
        self.given: list[tuple[torch.Tensor, float]] = []

    def __call__(
        self, latents: torch.Tensor, time: Any, encoder_hidden_states: torch.Tensor, added_cond_kwargs: None
    ) -> SimpleNamespace:
        sigma = float(time) / 1000
        self.given.append((latents, sigma))
        target = encoder_hidden_states.mean(dim=(1, 2)).view(-1, 1, 1, 1)
        return SimpleNamespace(sample=(latents - target) / sigma)  # x = (1 - σ)·x₀ + σ·n, so n - x₀ = (x - x₀)/σ


class OfNoise(Knowing):
    """In place of a UNet that predicts noise: it knows that all pictures are normal noise themselves."""

    levels = PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)

    def __call__(
        self, latents: torch.Tensor, time: Any, encoder_hidden_states: torch.Tensor, added_cond_kwargs: None
    ) -> SimpleNamespace:
        alpha = float(self.levels.alphas_cumprod[min(int(time), 999)])
        return SimpleNamespace(sample=latents * (1 - alpha) ** 0.5)


def knowing_model() -> DiffusionModel:
    empty: Any = None
    unet: Any = Knowing()
    return DiffusionModel(unet, empty, empty, empty, {}, "flow")


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_every_sampler_follows_a_flow_to_its_end(sampler: str, guidance: float) -> None:
    """Where every step gets the exact answer, the last latent is the picture, on a diffusion's noise levels too."""
    wanted, away = Conditioning(torch.full((2, 5, 3), 0.8)), Conditioning(torch.full((2, 5, 3), 0.2))
    noise = torch.cat([tile_noise(seed, (4, 6, 6)) for seed in (1, 2)])
    latents = sample(knowing_model(), wanted, away, noise, sampler, 20, guidance)
    # Guidance goes from what is steered away from, through what is wanted, and on: 0.2 + 3·(0.8 - 0.2).
    aim = 0.8 if guidance == 1 else 0.2 + 3 * 0.6
    assert latents.mean() == pytest.approx(aim, abs=0.02)
    assert latents.std() < 0.08


@pytest.mark.parametrize("sampler", ["ddim", "euler-a", "dpm++2m-karras"])
def test_a_flow_network_gives_the_exact_noise_of_a_diffusion(sampler: str) -> None:
    model = knowing_model()
    scheduler = make_scheduler(sampler, model)
    scheduler.set_timesteps(10)
    picture, noise = torch.full((1, 4, 6, 6), 0.5), tile_noise(3, (4, 6, 6))
    text = Conditioning(torch.full((1, 5, 3), 0.5))
    for index in (0, 4, 9):
        ratio = noise_ratio(scheduler, scheduler.timesteps[index], index)
        noised = (picture + ratio * noise) / (1 + ratio**2) ** 0.5
        epsilon = epsilon_of_flow(lambda latents, time: model.predict(latents, time, text), noised, ratio)
        assert torch.allclose(epsilon, noise, atol=2e-3)
        unet: Any = model.unet
        given, sigma = unet.given[-1]
        assert torch.allclose(given, (1 - sigma) * picture + sigma * noise, atol=1e-5)


def test_the_multistep_coefficients_integrate_lagranges_polynomials() -> None:
    from studio.generation.linear_multistep import LinearMultistepScheduler

    scheduler = LinearMultistepScheduler()
    scheduler.sigmas = torch.tensor([3.0, 2.0, 1.0, 0.0])
    # Evenly spaced, they are Adams and Bashforth's: 3/2 and -1/2, then 23/12, -16/12 and 5/12; one step goes by -1.
    assert [-scheduler.get_lms_coefficient(2, 1, n) for n in range(2)] == pytest.approx([3 / 2, -1 / 2])
    assert [-scheduler.get_lms_coefficient(3, 2, n) for n in range(3)] == pytest.approx([23 / 12, -16 / 12, 5 / 12])


def test_rescaled_guidance_is_the_stock_pipelines(
    narrow: Path, narrow_model: DiffusionModel, narrow_pipeline: StableDiffusionPipeline
) -> None:
    narrow_pipeline.scheduler = stock_scheduler("ddim", narrow)
    mine, theirs = ours(narrow_model, "ddim", 7.5, rescale=0.7), stock(narrow_pipeline, 7.5, guidance_rescale=0.7)
    assert_alike(mine, theirs)
    assert not torch.allclose(mine[0], ours(narrow_model, "ddim", 7.5)[0], atol=0.01)


def test_full_rescaling_gives_the_prompts_own_deviation() -> None:
    steered, towards = 3 * tile_noise(1, (4, 8, 8)), tile_noise(2, (4, 8, 8))
    assert rescaled(steered, towards, 1.0).std() == pytest.approx(float(towards.std()))
    assert torch.equal(rescaled(steered, towards, 0.0), steered)


def a_picture(model: DiffusionModel) -> torch.Tensor:
    side = model.native_size_px
    return torch.linspace(-1, 1, 3 * side * side).reshape(1, 3, side, side)


def as_pixels(picture: torch.Tensor) -> np.ndarray:
    return ((picture / 2 + 0.5) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("sampler", ["pndm", "ddim", "dpm++2m", "unipc", "euler", "euler-a", "heun"])
def test_image_to_image_is_the_stock_pipelines(
    sampler: str, narrow: Path, narrow_model: DiffusionModel, narrow_pipeline: StableDiffusionPipeline
) -> None:
    pipeline = StableDiffusionImg2ImgPipeline(**narrow_pipeline.components, requires_safety_checker=False)
    pipeline.scheduler = stock_scheduler(sampler, narrow)
    pipeline.set_progress_bar_config(disable=True)
    with torch.inference_mode():
        pixels = as_pixels(a_picture(narrow_model))
        latents = encoded(narrow_model, pixels)
    mine = ours(narrow_model, sampler, 7.5, start=Start(latents, 0.6))
    assert_alike(mine, stock(pipeline, 7.5, image=latents, strength=0.6))


@pytest.mark.parametrize("sampler", ["ddim", "dpm++2m"])
def test_inpainting_is_the_stock_pipelines(
    sampler: str, narrow: Path, narrow_model: DiffusionModel, narrow_pipeline: StableDiffusionPipeline
) -> None:
    pipeline = StableDiffusionInpaintPipeline(**narrow_pipeline.components, requires_safety_checker=False)
    pipeline.scheduler = stock_scheduler(sampler, narrow)
    pipeline.set_progress_bar_config(disable=True)
    side = narrow_model.native_size_px
    mask = torch.zeros(1, 1, side, side)
    mask[..., side // 2 :] = 1
    with torch.inference_mode():
        latents = encoded(narrow_model, as_pixels(a_picture(narrow_model)))
    cells = mask[:, :, :: narrow_model.reduction, :: narrow_model.reduction]
    mine = ours(narrow_model, sampler, 7.5, start=Start(latents, 0.8, cells))
    # The stock pipeline takes latents for the picture, where their channels say that they are.
    told = {"image": latents, "masked_image_latents": latents, "mask_image": mask, "height": side, "width": side}
    theirs = stock(pipeline, 7.5, strength=0.8, **told)
    assert_alike(mine, theirs)
    assert torch.equal(
        mine[0][..., : side // 2 // narrow_model.reduction], latents[..., : side // 2 // narrow_model.reduction]
    )


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_flow_goes_from_a_picture_to_the_end_too(sampler: str) -> None:
    wanted, noise = Conditioning(torch.full((1, 5, 3), 0.8)), tile_noise(1, (4, 6, 6))
    start = Start(torch.full((1, 4, 6, 6), 0.3), 0.5)
    latents = sample(knowing_model(), wanted, wanted, noise, sampler, 20, 1.0, start=start)
    assert latents.mean() == pytest.approx(0.8, abs=0.03)


def test_a_network_in_bf16_is_asked_in_bf16(tiny_epsilon: Path) -> None:
    model = load_model(ModelRef("tiny", tiny_epsilon), "cpu", torch.bfloat16)
    text = model.embed(["one river"])
    latents = sample(model, text, text, noise_for(model), "ddim", 2, 3.0)
    assert latents.dtype == torch.float32  # the sampler's sums stay exact
    predict = guided(model, make_scheduler("ddim", model), text, text, 3.0)
    assert torch.isfinite(predict(noise_for(model), torch.tensor(500), 0)).all()


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
