import hashlib
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from studio.errors import UsageError
from studio.models.modelspec import architecture_of, describe, describe_parts, modelspec, read_metadata
from studio.workspace import make_workspace
from tests.studio.training_runs import make_dataset, newest, settings, train


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(5, dtype=torch.float16)}
    save_file(tensors, path, {"lora_adapter_metadata": "kept", "modelspec.title": "old", "ss_steps": "1"})
    return path


def test_a_described_file_keeps_its_tensors_and_says_what_it_is(weights: Path) -> None:
    before = load_file(weights)
    describe(weights, modelspec("Deltas", "stable-diffusion-v1/lora", size_px=512, license="cc-by-4.0"))
    after = load_file(weights)
    assert all(torch.equal(before[name], after[name]) for name in before)
    with safe_open(weights, "pt") as file:
        facts = file.metadata()
    assert facts == read_metadata(weights)
    assert facts["modelspec.sai_model_spec"] == "1.0.1"
    assert facts["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert facts["modelspec.title"] == "Deltas"
    assert facts["modelspec.resolution"] == "512x512"
    assert facts["format"] == "pt"
    assert facts["lora_adapter_metadata"] == "kept"
    assert "ss_steps" not in facts
    assert "modelspec.prediction_type" not in facts


def test_the_sum_is_of_the_tensors_alone_so_describing_twice_gives_the_same(weights: Path) -> None:
    data = weights.read_bytes()
    tensors = data[8 + int.from_bytes(data[:8], "little") :]
    for title in ("one", "a longer title, and ünïcode"):
        describe(weights, {"modelspec.title": title})
        facts = read_metadata(weights)
        assert facts["modelspec.hash_sha256"] == f"0x{hashlib.sha256(tensors).hexdigest()}"
        assert facts["modelspec.title"] == title
        assert int.from_bytes(weights.read_bytes()[:8], "little") % 8 == 0


def test_what_is_not_safetensors_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "evil.safetensors"
    path.write_bytes(b"\x80\x04}q\x00.")
    with pytest.raises(UsageError, match="not a safetensors file"):
        describe(path, {})
    assert path.read_bytes() == b"\x80\x04}q\x00."


@pytest.mark.parametrize(
    ("unet", "objective", "name"),
    [
        ({"cross_attention_dim": 768}, "epsilon", "stable-diffusion-v1"),
        ({"cross_attention_dim": 1024}, "epsilon", "stable-diffusion-v2-512"),
        ({"cross_attention_dim": 1024}, "v", "stable-diffusion-v2-768-v"),
        (
            {"cross_attention_dim": 2048, "addition_embed_type": "text_time"},
            "epsilon",
            "stable-diffusion-xl-v1-base",
        ),
        ({"cross_attention_dim": 192}, "flow", "rs-studio-small"),
    ],
)
def test_a_family_is_told_by_its_shapes(unet: dict[str, object], objective: str, name: str) -> None:
    assert architecture_of(unet, objective) == name


def test_the_parts_of_a_run_are_told_apart_and_its_autoencoder_keeps_its_bytes(tmp_path: Path) -> None:
    for part in ("unet", "vae"):
        (tmp_path / "model" / part).mkdir(parents=True)
        save_file({"a": torch.ones(2)}, tmp_path / "model" / part / "model.safetensors")
    describe_parts(tmp_path / "model", "rivers@500", "stable-diffusion-v1", objective="v")
    facts = read_metadata(tmp_path / "model" / "unet" / "model.safetensors")
    assert facts["modelspec.architecture"] == "stable-diffusion-v1/unet"
    assert facts["modelspec.prediction_type"] == "v"
    assert read_metadata(tmp_path / "model" / "vae" / "model.safetensors") == {}


def test_a_checkpoint_says_what_it_is(tmp_path: Path, tiny_flow: Path) -> None:
    made = make_workspace(tmp_path / "made")
    make_dataset(made)
    finished, _, folder = train(made, settings(tiny_flow, steps=2, objective="flow"), "told")
    assert finished.outcome == "completed", finished.message
    facts = read_metadata(newest(folder) / "lora" / "pytorch_lora_weights.safetensors")
    assert facts["modelspec.title"] == "0001-told@2"
    assert facts["modelspec.architecture"] == "rs-studio-small/lora"
    assert facts["modelspec.prediction_type"] == "flow"
