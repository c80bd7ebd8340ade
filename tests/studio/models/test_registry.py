import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from studio import requests
from studio.errors import SettingsError, UsageError
from studio.models import checkpoints
from studio.models.load import load_model
from studio.models.registry import autoencoder_folder, resolve
from studio.models.weights import weights_file, weights_files
from studio.workspace import Workspace

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def model(tiny_flow: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_flow, tmp_path / "model"))


def fake_run(workspace: Workspace, name: str, base: str, steps: tuple[int, ...] = (2, 4), part: str = "lora") -> Path:
    """A run with checkpoints, as far as a name is concerned."""
    run = workspace.runs / name
    run.mkdir()
    (run / "config.toml").write_text(f'kind = "train"\n[settings]\nbase = "{base}"\n')

    def write(folder: Path) -> None:
        name = {"lora": "pytorch_lora_weights", "unet": "diffusion_pytorch_model", "vae": "model"}[part]
        (folder / part).mkdir()
        save_file({"a": torch.ones(1)}, folder / part / f"{name}.safetensors")

    for step in steps:
        checkpoints.save(run, step, {"weights.a": torch.ones(1)}, {"step": step, "objective": "v"}, write)
    return run


class TestNames:
    def test_the_starter_is_where_it_was_installed(self, starter: Path, made_workspace: Workspace) -> None:
        ref = resolve(made_workspace, "starter")
        assert (ref.name, ref.folder, ref.loras) == ("starter", starter, [])
        assert len(ref.weights_sha256()) == 64
        assert autoencoder_folder(made_workspace, "starter") == starter / "vae"

    def test_a_run_called_starter_does_not_take_the_name(self, starter: Path, made_workspace: Workspace) -> None:
        fake_run(made_workspace, "0001-starter", "starter", part="vae")
        assert resolve(made_workspace, "starter").folder == starter
        assert autoencoder_folder(made_workspace, "starter") == starter / "vae"
        assert autoencoder_folder(made_workspace, "1").parts[-4:] == (
            "0001-starter",
            "checkpoints",
            "step-000004",
            "vae",
        )

    def test_a_promoted_checkpoint_stands_for_its_run(self, starter: Path, made_workspace: Workspace) -> None:
        run = fake_run(made_workspace, "0001-lora", "starter")
        assert resolve(made_workspace, "lora").name == "0001-lora@4"
        assert requests.promote(made_workspace, "lora@2") == "0001-lora@2"
        assert resolve(made_workspace, "lora").name == "0001-lora@2"
        with pytest.raises(UsageError, match="no such whole checkpoint"):
            requests.promote(made_workspace, "lora@3")
        assert checkpoints.promoted_step(run) == 2

    def test_a_folder_may_be_named(self, tiny_flow: Path, made_workspace: Workspace) -> None:
        assert resolve(made_workspace, str(tiny_flow)).folder == tiny_flow.resolve()

    @pytest.mark.parametrize("name", ["terrain", "1", "0001-terrain"])
    def test_a_run_is_its_newest_whole_checkpoint(self, name: str, tiny_flow: Path, made_workspace: Workspace) -> None:
        run = fake_run(made_workspace, "0001-terrain", str(tiny_flow))
        ref = resolve(made_workspace, name)
        assert (ref.name, ref.objective) == ("0001-terrain@4", "v")
        assert ref.lora == run / "checkpoints/step-000004/lora/pytorch_lora_weights.safetensors"
        assert ref.unet_folder == tiny_flow.resolve() / "unet"
        assert resolve(made_workspace, f"{name}@2").name == "0001-terrain@2"

    def test_a_full_run_brings_its_own_unet(self, tiny_flow: Path, made_workspace: Workspace) -> None:
        run = fake_run(made_workspace, "0001-full", str(tiny_flow), part="unet")
        assert resolve(made_workspace, "full").unet_folder == run / "checkpoints/step-000004/unet"

    def test_a_lora_run_on_a_lora_run_keeps_both(self, tiny_flow: Path, made_workspace: Workspace) -> None:
        fake_run(made_workspace, "0001-first", str(tiny_flow))
        fake_run(made_workspace, "0002-second", "first@2")
        fake_run(made_workspace, "0003-full", "second", part="unet")
        names = [path.relative_to(made_workspace.runs).parts[:3] for path in resolve(made_workspace, "second").loras]
        assert names == [("0001-first", "checkpoints", "step-000002"), ("0002-second", "checkpoints", "step-000004")]
        assert resolve(made_workspace, "full").loras == []

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("startr", "Did you mean starter"),
            ("terain", "Did you mean terrain"),
            ("terrain@7", "no whole checkpoint at step 7. It has: 2, 4"),
            ("terrain@last", "not a step"),
            ("", "No model is named"),
            ("/", "no model_index.json"),
        ],
    )
    def test_a_wrong_name_says_what_there_is(
        self, name: str, said: str, tiny_flow: Path, made_workspace: Workspace
    ) -> None:
        fake_run(made_workspace, "0001-terrain", str(tiny_flow))
        with pytest.raises(UsageError, match=said):
            resolve(made_workspace, name)

    def test_an_autoencoder_makes_no_tiles_but_can_be_built_on(self, made_workspace: Workspace) -> None:
        run = fake_run(made_workspace, "0001-eyes", "starter", part="vae")
        with pytest.raises(UsageError, match="makes no tiles"):
            resolve(made_workspace, "eyes")
        assert autoencoder_folder(made_workspace, "eyes") == run / "checkpoints/step-000004/vae"


class Canary:
    """A pickle that leaves a file behind when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.path),)


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def evil(kind: str, model: Path, canary: Path) -> None:
    """Make of a model folder one that must not be opened."""
    weights, pickled = model / UNET, pickle.dumps(Canary(canary))
    if kind == "pickle":
        weights.write_bytes(pickled)
    elif kind == "zipped pickle":
        torch.save({"a": Canary(canary)}, weights)
    elif kind == "pickle behind a header":
        weights.write_bytes((2).to_bytes(8, "little") + b"[]" + pickled)
    elif kind == "truncated":
        weights.write_bytes(weights.read_bytes()[:100])
    elif kind == "empty":
        weights.write_bytes(b"")
    elif kind == "endless header":
        weights.write_bytes(b"\xff" * 4096)
    elif kind == "only a pickle":
        weights.unlink()
        weights.with_suffix(".bin").write_bytes(pickled)
    elif kind == "another name":
        weights.rename(weights.with_suffix(".ema.safetensors"))
    elif kind == "index to elsewhere":
        (model.parent / "evil.bin").write_bytes(pickled)
        index = {"metadata": {}, "weight_map": {"conv_in.weight": "../../evil.bin"}}
        (model / f"{UNET}.index.json").write_text(json.dumps(index))
    elif kind == "shards elsewhere":
        shutil.copy(weights, model.parent / "elsewhere.safetensors")
        weights.unlink()
        index = {"metadata": {}, "weight_map": {"conv_in.weight": "../../elsewhere.safetensors"}}
        (model / f"{UNET}.index.json").write_text(json.dumps(index))
    elif kind == "a pickle for a shard":
        (model / "unet" / "shard.safetensors").write_bytes(pickled)
        weights.unlink()
        (model / f"{UNET}.index.json").write_text('{"weight_map": {"conv_in.weight": "shard.safetensors"}}')
    elif kind == "a shard is missing":
        weights.unlink()
        (model / f"{UNET}.index.json").write_text('{"weight_map": {"conv_in.weight": "shard.safetensors"}}')
    elif kind == "pickles in an index":
        weights.rename(weights.with_name("other.safetensors"))
        (model / "unet" / "diffusion_pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "a.bin"}}')
    elif kind == "adapter beside":
        (model / "text_encoder" / "adapter_config.json").write_text('{"peft_type": "LORA"}')
        (model / "text_encoder" / "adapter_model.bin").write_bytes(pickled)
    elif kind == "no scheduler":
        shutil.rmtree(model / "scheduler")
    elif kind == "no tokenizer":
        shutil.rmtree(model / "tokenizer")
    elif kind == "another pipeline":
        (model / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    elif kind == "XL without its second text encoder":
        (model / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    elif kind == "inpainting":
        change(model / "unet/config.json", in_channels=9)
    elif kind == "another UNet":
        change(model / "unet/config.json", _class_name="SatUNet")
    elif kind == "torn index":
        (model / "model_index.json").write_text('{"_class_name": ')


EVIL = {
    "pickle": "not a safetensors file",
    "zipped pickle": "not a safetensors file",
    "pickle behind a header": "not a safetensors file",
    "truncated": "not a safetensors file",
    "empty": "not a safetensors file",
    "endless header": "not a safetensors file",
    "only a pickle": "only pickled weights",
    "another name": "under another name",
    "index to elsewhere": "several things to load",
    "adapter beside": "several things to load",
    "no scheduler": "incomplete: it has no scheduler",
    "no tokenizer": "incomplete: it has no tokenizer",
    "another pipeline": "is a FluxPipeline",
    "XL without its second text encoder": "incomplete: it has no text_encoder_2/config.json, tokenizer_2",
    "inpainting": "takes 9 channels, its autoencoder makes 4",
    "another UNet": "is a SatUNet",
    "shards elsewhere": "no safetensors file beside it",
    "a pickle for a shard": "not a safetensors file",
    "a shard is missing": "is not there",
    "pickles in an index": "no index of safetensors",
    "torn index": "cannot be read",
}


@pytest.mark.parametrize("kind", EVIL)
def test_what_cannot_be_opened_safely_is_refused(
    kind: str, model: Path, tmp_path: Path, made_workspace: Workspace
) -> None:
    evil(kind, model, tmp_path / "canary")
    with pytest.raises(UsageError, match=EVIL[kind]):
        resolve(made_workspace, str(model))
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        ("a", "no checkpoint of Stable Diffusion"),
        ("unet.mid_block.to_q.lora_A.weight", "a LoRA, not a model"),
        ("down_blocks.0.resnets.0.conv1.weight", "one part of a model"),
        ("double_blocks.0.img_attn.proj.weight", "another kind"),
        ("model.diffusion_model.input_blocks.0.0.weight", "without autoencoder and text encoder"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused_for_what_it_is(
    tensor: str, said: str, tmp_path: Path, made_workspace: Workspace
) -> None:
    save_file({tensor: torch.ones(1)}, tmp_path / "a.safetensors")
    with pytest.raises(UsageError, match=said):
        resolve(made_workspace, str(tmp_path / "a.safetensors"))


def test_a_pickle_is_refused_whatever_it_is_called(tmp_path: Path, made_workspace: Workspace) -> None:
    renamed, checkpoint = tmp_path / "a.safetensors", tmp_path / "c.ckpt"
    renamed.write_bytes(pickle.dumps(Canary(tmp_path / "canary")))
    checkpoint.write_bytes(renamed.read_bytes())
    with pytest.raises(UsageError, match="not a safetensors file, whatever its name says"):
        resolve(made_workspace, str(renamed))
    with pytest.raises(UsageError, match="not a model"):
        resolve(made_workspace, str(checkpoint))
    assert not (tmp_path / "canary").exists()


def test_half_precision_variants_and_shards_are_opened(model: Path, made_workspace: Workspace) -> None:
    whole = load_model(resolve(made_workspace, str(model)), "cpu")
    kept = {name: one.clone() for name, one in whole.unet.state_dict().items()}
    sums = resolve(made_workspace, str(model)).weights_sha256()
    (model / UNET).unlink()
    whole.unet.save_pretrained(model / "unet", max_shard_size="200KB")
    assert len(weights_files(model / "unet")) > 1
    for component in ("vae", "text_encoder"):
        path = weights_file(model / component)
        path.rename(path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))
    ref = resolve(made_workspace, str(model))
    again = load_model(ref, "cpu")
    assert all(torch.equal(one, kept[name]) for name, one in again.unet.state_dict().items())
    assert torch.equal(again.vae.decoder.conv_in.weight, whole.vae.decoder.conv_in.weight)
    assert ref.weights_sha256() != sums  # as the files are others


def test_the_file_that_is_checked_is_the_one_that_is_loaded(model: Path) -> None:
    save_file({"a": torch.ones(1)}, model / "unet" / "aaa.safetensors")
    assert weights_file(model / "unet") == model / UNET


def test_values_that_suit_a_model_come_from_its_folder(model: Path, made_workspace: Workspace) -> None:
    ref = resolve(made_workspace, str(model))
    assert ref.defaults().model_dump() == {"sampler": "dpm++2m", "steps": 4, "guidance": 2.5}
    (model / "studio.json").write_text('{"sampler": "magic", "steps": 0}')
    with pytest.raises(SettingsError, match=r"2 faults: sampler: .*steps: "):
        ref.defaults()
    (model / "studio.json").unlink()
    assert ref.defaults().sampler is None
