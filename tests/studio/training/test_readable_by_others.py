"""What a run leaves behind is loaded by diffusers as it is, and gives the pixels that the studio gives."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel

from studio.generation.samplers import sample, tile_noise
from studio.models.load import DiffusionModel, load_model
from studio.models.registry import resolve
from studio.workspace import Workspace, make_workspace
from tests.studio.training_runs import AUTOENCODER, SCRATCH, make_dataset, newest, settings, train

STEPS, GUIDANCE = 3, 4.0
PROMPT = "one river near a town"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = make_workspace(tmp_path_factory.mktemp("others") / "workspace")
    make_dataset(made)
    return made


def noise_for(model: DiffusionModel) -> torch.Tensor:
    cells = model.native_size_px // model.reduction
    return tile_noise(1, (int(model.unet.config.in_channels), cells, cells))


def ours(model: DiffusionModel, sampler: str) -> np.ndarray:
    with torch.inference_mode():
        text = model.embed([PROMPT]), model.embed([""])
        return (
            model.decode(sample(model, *text, noise_for(model), sampler, STEPS, GUIDANCE)).permute(0, 2, 3, 1).numpy()
        )


def theirs(pipeline: StableDiffusionPipeline, noise: torch.Tensor) -> np.ndarray:
    pipeline.set_progress_bar_config(disable=True)
    return np.stack(
        [
            np.asarray(image)
            for image in pipeline(
                PROMPT, num_inference_steps=STEPS, guidance_scale=GUIDANCE, latents=noise, output_type="pil"
            ).images
        ]
    )


def difference(first: np.ndarray, second: np.ndarray) -> int:
    return int(np.abs(first.astype(int) - second).max())


def test_a_lora_of_stable_diffusion_15s_shape(workspace: Workspace, narrow: Path) -> None:
    """Two steps of the recipe's kind, with a strength other than 1, then the stock pipeline with the LoRA on."""
    told = settings(narrow, {"name": "lora", "rank": 4, "alpha": 12.0}, steps=2, learning_rate=0.05, accumulation=2)
    finished, _, folder = train(workspace, told, "sd15-lora")
    assert finished.outcome == "completed"
    assert 0.8 < finished.result["validation_loss_first"] < 2  # an untrained UNet says next to nothing of the noise
    assert abs(finished.result["validation_loss_last"] - finished.result["validation_loss_first"]) < 0.5
    model = load_model(resolve(workspace, "sd15-lora"), "cpu")
    assert model.objective == "epsilon"
    pipeline = StableDiffusionPipeline.from_pretrained(narrow, local_files_only=True)
    without = theirs(pipeline, noise_for(model))
    pipeline.load_lora_weights(newest(folder) / "lora", local_files_only=True)
    with_lora = theirs(pipeline, noise_for(model))
    assert difference(ours(model, "pndm"), with_lora) <= 1
    assert difference(without, with_lora) > 1


def test_a_fully_fine_tuned_unet(workspace: Workspace, tiny_epsilon: Path) -> None:
    _, _, folder = train(workspace, settings(tiny_epsilon, {"name": "full"}, steps=2, ema=0.5), "full")
    unet = UNet2DConditionModel.from_pretrained(newest(folder) / "unet", local_files_only=True)
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_epsilon, unet=unet, local_files_only=True)
    model = load_model(resolve(workspace, "full"), "cpu")
    assert difference(ours(model, "dpm++2m"), theirs(pipeline, noise_for(model))) <= 1
    base = load_model(resolve(workspace, str(tiny_epsilon)), "cpu")
    assert not torch.equal(base.unet.conv_in.weight, model.unet.conv_in.weight)


def test_a_model_made_from_scratch(workspace: Workspace, tiny_flow: Path) -> None:
    told = settings(tiny_flow, SCRATCH, steps=2, objective="v")
    _, _, folder = train(workspace, told, "scratch")
    pipeline = StableDiffusionPipeline.from_pretrained(newest(folder) / "model", local_files_only=True)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    model = load_model(resolve(workspace, "scratch"), "cpu")
    assert model.objective == "v"
    assert difference(ours(model, "dpm++2m"), theirs(pipeline, noise_for(model))) <= 1


def test_an_autoencoder_and_a_model_on_it(workspace: Workspace) -> None:
    _, _, folder = train(workspace, settings("", AUTOENCODER, steps=2), "eyes")
    vae = AutoencoderKL.from_pretrained(newest(folder) / "vae", local_files_only=True)
    assert vae.config.latent_channels == 4
    finished, _, _ = train(workspace, settings("eyes", SCRATCH, steps=1), "on-eyes")
    assert finished.outcome == "completed"
    model = load_model(resolve(workspace, "on-eyes"), "cpu")
    assert model.objective == "flow"
    assert torch.equal(model.vae.decoder.conv_in.weight, vae.decoder.conv_in.weight.half().float())


def test_a_run_is_silent_and_no_checkpoint_says_where_its_base_lies(
    workspace: Workspace, tiny_flow: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, method in (("quiet-full", {"name": "full"}), ("quiet-scratch", SCRATCH)):
        told = settings(tiny_flow, method, steps=1, objective="flow", preview_prompts=["one river"])
        _, _, folder = train(workspace, told, name)
        for path in newest(folder).rglob("*.json"):
            assert str(tiny_flow) not in path.read_text(), path
            assert str(workspace.root) not in path.read_text(), path
    assert capfd.readouterr() == ("", "")


def test_another_objective_goes_with_the_run(workspace: Workspace, tiny_flow: Path) -> None:
    told = settings(tiny_flow, {"name": "full"}, steps=1, objective="epsilon", preview_every=1, preview_prompts=["a"])
    finished, _, _ = train(workspace, told, "turned")
    assert finished.outcome == "completed"
    assert resolve(workspace, "turned").objective == "epsilon"
