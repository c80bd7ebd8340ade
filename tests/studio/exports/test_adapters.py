import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file

from studio import files
from studio.errors import UsageError
from studio.events import StepDone, Validated
from studio.exports.export import check_export
from studio.journal import Journal
from studio.settings import ExportSettings
from studio.workspace import Workspace
from tests.studio.exports.conftest import make_batch

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]


def tiny_unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=8,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).eval()


def output_of(unet: UNet2DConditionModel) -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    noisy, words = torch.randn(1, 4, 8, 8, generator=rng), torch.randn(1, 3, 8, generator=rng)
    with torch.inference_mode():
        return unet(noisy, torch.tensor([500]), words).sample


def trained_lora(unet: UNet2DConditionModel) -> dict[str, torch.Tensor]:
    unet.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=TARGETS))
    rng = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, weight in unet.named_parameters():
            if "lora_" in name:
                weight.copy_(torch.randn(weight.shape, generator=rng))
    return get_peft_model_state_dict(unet)


def make_run(workspace: Workspace, base: Path, name: str, step: int) -> Path:
    """A run with one checkpoint folder, still empty, and a base model to begin from."""
    for part in ("unet", "vae", "text_encoder", "scheduler", "tokenizer"):
        (base / part).mkdir(parents=True, exist_ok=True)
        save_file({"weight": torch.zeros(2)}, base / part / "model.safetensors")
    for file in ("unet/config", "vae/config", "text_encoder/config", "scheduler/scheduler_config", "tokenizer/vocab"):
        (base / f"{file}.json").write_text("{}")
    (base / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    run = workspace.runs / name
    checkpoint = run / "checkpoints" / f"step-{step:06d}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.json").write_text(json.dumps({"step": step}))
    settings = (
        f'[settings]\nbase = "{base}"\n[settings.method]\nname = "lora"\nrank = 2\n[settings.data]\nname = "rivers"\n'
    )
    (run / "config.toml").write_text('kind = "train"\n' + settings)
    journal = Journal(run / "events.jsonl")
    for event in (Validated(0, 0.5), StepDone(1, 0.4, 1e-4, 1.0, 4, 0.1), Validated(step, 0.25)):
        journal.write(event)
    journal.close()
    return checkpoint


@pytest.fixture
def lora_run(workspace: Workspace, tmp_path: Path) -> dict[str, torch.Tensor]:
    layers = trained_lora(tiny_unet())
    checkpoint = make_run(workspace, tmp_path / "base", "0001-deltas", 300)
    StableDiffusionPipeline.save_lora_weights(checkpoint / "lora", unet_lora_layers=layers, safe_serialization=True)
    files.write_manifest(checkpoint)
    return layers


@pytest.mark.parametrize("name", ["deltas", "0001-deltas", "1", "deltas@300"])
def test_an_exported_adapter_is_loaded_by_diffusers(
    workspace: Workspace, tmp_path: Path, run_export: Any, lora_run: dict[str, torch.Tensor], name: str
) -> None:
    finished, _ = run_export(name, "adapter", tmp_path / "out")
    assert finished.outcome == "completed", finished.message
    assert not files.manifest_faults(tmp_path / "out")
    weights, _ = StableDiffusionPipeline.lora_state_dict(str(tmp_path / "out"), local_files_only=True)
    loaded, trained, plain = tiny_unet(), tiny_unet(), tiny_unet()
    loaded.load_lora_adapter(weights, prefix="unet")
    trained_lora(trained)
    assert torch.allclose(output_of(loaded), output_of(trained), atol=1e-6)
    assert not torch.allclose(output_of(loaded), output_of(plain))


def test_the_card_of_an_adapter_says_where_it_comes_from(
    workspace: Workspace, tmp_path: Path, run_export: Any, lora_run: object
) -> None:
    run_export("deltas", "adapter", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "# 0001-deltas@300" in card
    assert "| data set | rivers:" in card
    assert "0.5000 at first, 0.2500 at last" in card
    assert "load_lora_weights" in card
    assert (tmp_path / "out" / "config.toml").is_file()


def test_a_fully_trained_unet_is_exported_whole(workspace: Workspace, tmp_path: Path, run_export: Any) -> None:
    checkpoint = make_run(workspace, tmp_path / "base", "0002-full", 10)
    tiny_unet().save_pretrained(checkpoint / "unet")
    files.write_manifest(checkpoint)
    assert run_export("full", "adapter", tmp_path / "out")[0].outcome == "completed"
    loaded = UNet2DConditionModel.from_pretrained(tmp_path / "out", subfolder="unet", local_files_only=True)
    trained = tiny_unet().state_dict()
    assert all(torch.equal(weight, trained[name]) for name, weight in loaded.state_dict().items())


@pytest.mark.parametrize(
    ("name", "to", "words"),
    [
        ("deltas", "parquet", "--to adapter"),
        ("delta", "adapter", "Did you mean deltas?"),
        ("deltas@7", "adapter", "no whole checkpoint at step 7"),
        ("river", "adapter", "comes from a run"),
    ],
)
def test_what_is_no_adapter_is_refused(
    workspace: Workspace, tmp_path: Path, lora_run: object, name: str, to: Any, words: str
) -> None:
    make_batch(workspace, "river", ["a river"])
    with pytest.raises(UsageError) as refusal:
        check_export(workspace, ExportSettings(name=name, to=to, target=str(tmp_path / "out")))
    assert words in str(refusal.value)


def test_a_torn_checkpoint_is_not_exported(
    workspace: Workspace, tmp_path: Path, run_export: Any, lora_run: object
) -> None:
    weights = next((workspace.runs / "0001-deltas" / "checkpoints").rglob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    finished, _ = run_export("deltas", "adapter", tmp_path / "out")
    assert finished.exit_code == 2
    assert not (tmp_path / "out").exists()
