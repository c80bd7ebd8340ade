"""Stable Diffusion 2 and XL against the stock pipelines."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

from studio.generation.samplers import own_sampler, sample, tile_noise
from studio.models.load import Conditioning, DiffusionModel, joined, load_model
from studio.models.registry import resolve
from studio.workspace import Workspace

PROMPT, NEGATIVE, STEPS = "one river near a town", "some road", 4


def opened(workspace: Workspace, folder: Path, **told: Any) -> DiffusionModel:
    return load_model(resolve(workspace, str(folder)), "cpu", **told)


def ours(model: DiffusionModel, negative: str, guidance: float) -> tuple[torch.Tensor, np.ndarray]:
    noise = torch.cat([tile_noise(seed, (4, 8, 8)) for seed in (7, 8)])
    with torch.inference_mode():
        texts = model.embed([PROMPT, PROMPT]), model.embed([negative, negative])
        latents = sample(model, *texts, noise, own_sampler(model.scheduler), STEPS, guidance)
        return latents, model.decode(latents).permute(0, 2, 3, 1).numpy()


def stock(kind: Any, folder: Path, negative: str | None, guidance: float) -> tuple[torch.Tensor, np.ndarray]:
    pipeline = kind.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    told = {"num_inference_steps": STEPS, "guidance_scale": guidance, "negative_prompt": negative}
    noise = torch.cat([tile_noise(seed, (4, 8, 8)) for seed in (7, 8)])
    latents = pipeline(PROMPT, num_images_per_prompt=2, latents=noise, output_type="latent", **told).images
    with torch.inference_mode():
        decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    return latents, np.stack([np.asarray(one) for one in pipeline.image_processor.postprocess(decoded)])


def assert_alike(mine: tuple[torch.Tensor, np.ndarray], theirs: tuple[torch.Tensor, np.ndarray]) -> None:
    assert (mine[0] - theirs[0]).abs().max() < 1e-4 * theirs[0].abs().max()
    assert np.abs(mine[1].astype(int) - theirs[1]).max() <= 1
    assert mine[1].std() > 1  # not one grey field on both sides


@pytest.mark.parametrize("guidance", [5.0, 1.0])
def test_xl_makes_what_the_stock_pipeline_makes(guidance: float, narrow_xl: Path, made_workspace: Workspace) -> None:
    model = opened(made_workspace, narrow_xl)
    assert own_sampler(model.scheduler) == "euler"
    assert_alike(ours(model, NEGATIVE, guidance), stock(StableDiffusionXLPipeline, narrow_xl, NEGATIVE, guidance))


def test_an_empty_text_is_xls_zeros(narrow_xl: Path, tmp_path: Path, made_workspace: Workspace) -> None:
    """As the stock pipeline does where no negative prompt is given, but for models whose index says otherwise."""
    model = opened(made_workspace, narrow_xl)
    assert_alike(ours(model, "", 5.0), stock(StableDiffusionXLPipeline, narrow_xl, None, 5.0))
    other = Path(shutil.copytree(narrow_xl, tmp_path / "other"))
    index = json.loads((other / "model_index.json").read_text()) | {"force_zeros_for_empty_prompt": False}
    (other / "model_index.json").write_text(json.dumps(index))
    theirs = stock(StableDiffusionXLPipeline, other, None, 5.0)
    assert_alike(ours(opened(made_workspace, other), "", 5.0), theirs)
    assert not torch.allclose(theirs[0], ours(model, "", 5.0)[0], atol=1e-3)


def test_xl_is_told_other_frames(narrow_xl: Path, made_workspace: Workspace) -> None:
    model = opened(made_workspace, narrow_xl)
    latents, text = tile_noise(1, (4, 8, 8)), model.embed([PROMPT])
    with torch.inference_mode():
        own = torch.tensor([[64.0, 64, 0, 0, 64, 64]])
        assert torch.equal(model.predict(latents, 500, text), model.predict(latents, 500, text, own))
        small = torch.tensor([[16.0, 16, 0, 0, 64, 64]])
        assert not torch.equal(model.predict(latents, 500, text, own), model.predict(latents, 500, text, small))


def test_a_v_predicting_model_of_the_second_family_makes_what_the_stock_pipeline_makes(
    narrow_v: Path, made_workspace: Workspace
) -> None:
    model = opened(made_workspace, narrow_v)
    assert (model.objective, own_sampler(model.scheduler)) == ("v", "ddim")
    assert_alike(ours(model, NEGATIVE, 5.0), stock(StableDiffusionPipeline, narrow_v, NEGATIVE, 5.0))


def test_autoencoders_keep_full_precision(narrow_xl: Path, narrow_v: Path, made_workspace: Workspace) -> None:
    half = torch.bfloat16
    formats = {name: part.dtype for name, part in opened(made_workspace, narrow_xl, dtype=half).parts.items()}
    assert formats == {"unet": half, "vae": torch.float32, "text_encoder": half, "text_encoder_2": half}
    assert opened(made_workspace, narrow_v, dtype=half).vae.dtype == torch.float32


def test_conditions_are_cut_and_joined_with_their_pooled_vectors() -> None:
    whole = Conditioning(torch.randn(3, 77, 8), torch.randn(3, 4))
    again = joined([whole[:1], whole[1:]])
    assert torch.equal(again.states, whole.states)
    assert again.pooled is not None
    assert whole.pooled is not None
    assert torch.equal(again.pooled, whole.pooled)
    assert joined([Conditioning(whole.states)]).pooled is None


def test_two_text_encoders_count_in_the_sums(narrow_xl: Path, made_workspace: Workspace, tmp_path: Path) -> None:
    ref = resolve(made_workspace, str(narrow_xl))
    other = Path(shutil.copytree(narrow_xl, tmp_path / "other"))
    weights = other / "text_encoder_2" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    changed = resolve(made_workspace, str(other))
    assert ref.weights_sha256() != changed.weights_sha256()
    assert ref.text_encoder_sha256() != changed.text_encoder_sha256()
