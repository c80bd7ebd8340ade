"""What a run exports is loaded by the stock pipeline as it is, and gives the pixels that the studio gives."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file

from studio import files
from studio.control import Control
from studio.errors import UsageError
from studio.exports.adapters import LORA_FILE, file_name
from studio.generation.samplers import sample, tile_noise
from studio.jobs import execute
from studio.models.load import DiffusionModel, load_model
from studio.models.registry import ModelRef, resolve
from studio.requests import export_job, train_job
from studio.settings import ExportSettings, LoraMethod
from studio.workspace import Workspace, make_workspace
from tests.studio.small_models import save_family
from tests.studio.training_runs import make_dataset, settings, train

STEPS, GUIDANCE = 2, 4.0
PROMPT = "one river near a town"
LORA = {"name": "lora", "rank": 4, "alpha": 12.0}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = make_workspace(tmp_path_factory.mktemp("exported") / "workspace")
    make_dataset(made)
    return made


def make_run(workspace: Workspace, base: str | Path, name: str, method: dict[str, Any]) -> str:
    """A run at its second step, with random additions of visible size, as training leaves them."""
    job = train_job(workspace, settings(base, method, steps=4), name)
    told = job.settings.method
    assert isinstance(told, LoraMethod)
    model = load_model(resolve(workspace, str(base)), "cpu")
    torch.manual_seed(5)
    shape = {"r": told.rank, "lora_alpha": told.alpha, "use_dora": told.dora, "init_lora_weights": False}
    model.unet.add_adapter(LoraConfig(target_modules=list(told.targets), **shape))
    learnt = {"unet_lora_layers": get_peft_model_state_dict(model.unet)}
    for number, encoder in enumerate(model.text_encoders if told.text_encoder else ()):
        encoder.add_adapter(LoraConfig(target_modules=["q_proj", "v_proj", "out_proj"], **shape))
        name_of = "text_encoder_2_lora_layers" if number else "text_encoder_lora_layers"
        learnt[name_of] = get_peft_model_state_dict(encoder, adapter_name="default")
    strength = told.alpha / told.rank
    learnt = {
        component: {name: one * strength if ".lora_B." in name else one for name, one in layers.items()}
        for component, layers in learnt.items()
    }
    checkpoint = job.folder.path / "checkpoints" / "step-000002"
    with files.whole_folder(checkpoint) as folder:
        (folder / "state.json").write_text(json.dumps({"step": 2, "objective": model.objective}))
        kind = StableDiffusionPipeline if model.text_encoder_2 is None else StableDiffusionXLPipeline
        kind.save_lora_weights(folder / "lora", **learnt)
    return name


@pytest.fixture(scope="module")
def plain(workspace: Workspace, narrow: Path) -> str:
    return make_run(workspace, narrow, "plain", LORA)


@pytest.fixture(scope="module")
def stacked(workspace: Workspace, plain: str) -> str:
    """A LoRA that begins from another, of another rank and with other layers."""
    targets = ["to_q", "to_out.0", "ff.net.0.proj", "proj_in"]
    return make_run(workspace, plain, "stacked", {"name": "lora", "rank": 2, "alpha": 2.0, "targets": targets})


@pytest.fixture(scope="module")
def worded(workspace: Workspace, narrow: Path) -> str:
    """A LoRA of the text encoder too, and of other layers than those of attention, as the studio trains it."""
    method = LORA | {"text_encoder": True, "targets": ["to_q", "to_v", "ff.net.0.proj"]}
    finished, _, _ = train(workspace, settings(narrow, method, steps=2, learning_rate=0.05), "worded")
    assert finished.outcome == "completed", finished.message
    return "worded"


@pytest.fixture(scope="module")
def dora(workspace: Workspace, narrow: Path) -> str:
    """A DoRA as the studio trains it."""
    told = settings(narrow, LORA | {"dora": True}, steps=2, learning_rate=0.05)
    finished, _, _ = train(workspace, told, "dora")
    assert finished.outcome == "completed", finished.message
    return "dora"


def export(workspace: Workspace, name: str, to: str, target: Path, **more: str) -> Path:
    told = ExportSettings.model_validate({"name": name, "to": to, "target": str(target)} | more)
    finished = execute(export_job(workspace, told), Control())
    assert finished.outcome == "completed", finished.message
    assert not files.manifest_faults(target)
    return target


def noise_for(model: DiffusionModel) -> torch.Tensor:
    cells = model.native_size_px // model.reduction
    return tile_noise(1, (int(model.unet.config.in_channels), cells, cells))


@pytest.fixture(scope="module")
def drawn(workspace: Workspace) -> Callable[[str], np.ndarray]:
    """Our own picture by a model's name, each drawn once."""

    @cache
    def ours(name: str) -> np.ndarray:
        model = load_model(resolve(workspace, name), "cpu")
        with torch.inference_mode():
            text = model.embed([PROMPT]), model.embed([""])
            sampler = "pndm" if model.text_encoder_2 is None else "euler"
            latents = sample(model, *text, noise_for(model), sampler, STEPS, GUIDANCE)
            return model.decode(latents).permute(0, 2, 3, 1).numpy()

    return ours


@pytest.fixture(scope="module")
def stock(narrow: Path) -> Any:
    return opened(narrow)


def opened(folder: Path) -> Any:
    pipeline = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def theirs(pipeline: Any) -> np.ndarray:
    cells = pipeline.unet.config.sample_size
    noise = tile_noise(1, (int(pipeline.unet.config.in_channels), cells, cells))
    pictures = pipeline(PROMPT, num_inference_steps=STEPS, guidance_scale=GUIDANCE, latents=noise, output_type="pil")
    return np.stack([np.asarray(image) for image in pictures.images])


def with_lora(pipeline: Any, target: Path, to: str) -> np.ndarray:
    name = next(target.glob("*.safetensors")).name
    # diffusers maps a checkpoint's names by the UNet's settings, which its loader of Stable Diffusion 1 is told.
    is_told = to == "comfyui" and isinstance(pipeline, StableDiffusionPipeline)
    more = {"unet_config": pipeline.unet.config} if is_told else {}
    pipeline.load_lora_weights(target, weight_name=name, local_files_only=True, **more)
    try:
        return theirs(pipeline)
    finally:
        pipeline.unload_lora_weights()


def difference(first: np.ndarray, second: np.ndarray) -> int:
    return int(np.abs(first.astype(int) - second).max())


@pytest.mark.parametrize(
    ("run", "to"),
    [
        ("plain", "comfyui"),
        ("stacked", "adapter"),
        ("stacked", "kohya"),
        ("worded", "adapter"),
        ("worded", "kohya"),
        ("worded", "comfyui"),
    ],
)
def test_a_lora_gives_the_stock_pipeline_our_pixels(
    workspace: Workspace,
    narrow: Path,
    stock: Any,
    drawn: Any,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    run: str,
    to: str,
) -> None:
    name = request.getfixturevalue(run)
    target = export(workspace, name, to, tmp_path / "out")
    with_it = with_lora(stock, target, to)
    assert difference(drawn(name), with_it) <= 1
    assert difference(drawn(str(narrow)), with_it) > 1


def test_an_xl_lora_of_both_text_encoders(workspace: Workspace, drawn: Any, tmp_path: Path) -> None:
    base = save_family(tmp_path / "xl", "sdxl")
    name = make_run(workspace, base, "large", LORA | {"text_encoder": True})
    pipeline = opened(base)
    assert isinstance(pipeline, StableDiffusionXLPipeline)
    for to in ("adapter", "kohya", "comfyui"):
        target = export(workspace, name, to, tmp_path / to)
        assert difference(drawn(name), with_lora(pipeline, target, to)) <= 1, to
    stems = {one.partition(".")[0] for one in load_file(next((tmp_path / "kohya").glob("*.safetensors")))}
    assert "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q" in stems
    assert "lora_te2_text_model_encoder_layers_0_self_attn_q_proj" in stems
    whole = opened(export(workspace, name, "model", tmp_path / "model"))
    assert isinstance(whole, StableDiffusionXLPipeline)
    assert difference(drawn(name), theirs(whole)) <= 1
    assert difference(drawn(name), theirs(pipeline)) > 1


def test_a_dora_gives_the_stock_pipeline_our_pixels(
    workspace: Workspace, stock: Any, drawn: Any, tmp_path: Path, dora: str
) -> None:
    assert difference(drawn(dora), with_lora(stock, export(workspace, dora, "adapter", tmp_path / "a"), "adapter")) <= 1
    assert difference(drawn(dora), theirs(opened(export(workspace, dora, "model", tmp_path / "whole")))) <= 1


@pytest.mark.parametrize("to", ["kohya", "comfyui"])
def test_a_dora_is_refused_where_it_would_draw_something_else(
    workspace: Workspace, tmp_path: Path, dora: str, to: Any
) -> None:
    with pytest.raises(UsageError, match="DoRA"):
        export_job(workspace, ExportSettings(name=dora, to=to, target=str(tmp_path / "out")))


def test_a_whole_model_needs_no_base(
    workspace: Workspace, narrow: Path, drawn: Any, tmp_path: Path, worded: str
) -> None:
    target = export(workspace, worded, "model", tmp_path / "out")
    assert difference(drawn(worded), theirs(opened(target))) <= 1
    assert difference(drawn(worded), drawn(str(target))) == 0
    text = "".join(path.read_text() for ending in ("json", "toml", "md") for path in target.rglob(f"*.{ending}"))
    assert str(narrow) not in text
    assert str(workspace.root) not in text


def test_a_model_with_another_objective_says_so_to_the_stock_pipeline(
    workspace: Workspace, tiny_epsilon: Path, tmp_path: Path
) -> None:
    told = settings(tiny_epsilon, {"name": "full"}, steps=1, objective="v")
    assert train(workspace, told, "turned")[0].outcome == "completed"
    target = export(workspace, "turned", "model", tmp_path / "out")
    assert opened(target).scheduler.config.prediction_type == "v_prediction"
    assert resolve(workspace, str(target)).objective is None
    assert load_model(resolve(workspace, str(target)), "cpu").objective == "v"


def test_half_precision_halves_the_files(workspace: Workspace, tmp_path: Path, plain: str) -> None:
    sizes = [
        sum(
            path.stat().st_size
            for path in export(workspace, plain, "kohya", tmp_path / one, precision=one).glob("*.s*")
        )
        for one in ("fp32", "fp16")
    ]
    assert sizes[1] < 0.75 * sizes[0]
    tensors = load_file(next((tmp_path / "fp16").glob("*.safetensors")))
    assert {one.dtype for one in tensors.values()} == {torch.float16}


def test_kohyas_keys_hold_the_strength_apart(workspace: Workspace, tmp_path: Path, worded: str) -> None:
    target = export(workspace, worded, "kohya", tmp_path / "out")
    tensors = load_file(next(target.glob("*.safetensors")))
    stems = {name.partition(".")[0] for name in tensors}
    assert {name.partition(".")[2] for name in tensors} == {"lora_down.weight", "lora_up.weight", "alpha"}
    assert "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q" in stems
    assert "lora_te_text_model_encoder_layers_0_self_attn_q_proj" in stems
    assert {float(one) for name, one in tensors.items() if name.endswith(".alpha")} == {12.0}


@pytest.mark.parametrize(
    ("name", "file"),
    [("r1", "r1"), ("1", "r1"), ("0001-r1", "r1"), ("r1@2", "r1-step2")],
)
def test_a_lora_is_called_as_its_run_is(name: str, file: str) -> None:
    ref = ModelRef("0001-r1@2", Path("base"))
    assert file_name(ref, ExportSettings(name=name, to="kohya", target="out")) == f"{file}.safetensors"
    assert file_name(ref, ExportSettings(name=name, to="adapter", target="out")) == LORA_FILE


@pytest.mark.parametrize("to", ["adapter", "kohya", "model"])
def test_every_file_says_what_it_is(workspace: Workspace, narrow: Path, tmp_path: Path, plain: str, to: str) -> None:
    target = export(workspace, plain, to, tmp_path / "out")
    for path in target.rglob("*.safetensors"):
        with safe_open(path, "pt") as file:
            notes = file.metadata()
        assert notes["modelspec.sai_model_spec"] == "1.0.1"
        assert notes["modelspec.title"].endswith("plain@2")
        part = path.parent.name if to == "model" else "lora"
        assert notes["modelspec.architecture"] == f"rs-studio-small/{part}"
        assert notes["modelspec.resolution"] == "32x32"
        assert notes["ss_steps"] == "2"
        assert str(narrow) not in str(notes)
    card = (target / "README.md").read_text()
    for row in ("| data set | set:train", "| split", "| licence | not stated", "of 4 steps", "| base model | narrow"):
        assert row in card, row
    assert str(narrow) not in card
