"""Single-file checkpoints, unpacked into what they were made of."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from studio.errors import NotFetched, UsageError
from studio.events import Event, Phase
from studio.fetching import fetch_model, fetched_models
from studio.models import stored
from studio.models.families import family_of
from studio.models.load import DiffusionModel, load_model
from studio.models.registry import ModelRef, resolve
from studio.models.single_file_settings import settings_of
from studio.models.weights import read_header
from studio.workspace import Workspace
from tests.studio.single_files import save_single_file

TEXTS = ["one river near a town", ""]


def assert_same(mine: DiffusionModel, theirs: DiffusionModel) -> None:
    assert mine.parts.keys() == theirs.parts.keys()
    for name, part in theirs.parts.items():
        weights = mine.parts[name].state_dict()
        for key, one in part.state_dict().items():
            assert torch.equal(weights[key], one), f"{name}.{key}"
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        texts = [model.embed(TEXTS) for model in (mine, theirs)]
        assert torch.equal(texts[0].states, texts[1].states)
        said = [model.predict(latents, 500, text) for model, text in zip((mine, theirs), texts, strict=True)]
        assert torch.equal(*said)
        assert torch.equal(mine.decode(latents), theirs.decode(latents))


@pytest.fixture
def file_of(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A single file of a family with a tokenizer beside it, and the folder that it was written from."""

    def made(family: str, dtype: torch.dtype = torch.float32, **notes: str) -> tuple[Path, Path]:
        folder = request.getfixturevalue({"sd1": "narrow_first", "sd2": "narrow_v", "sdxl": "narrow_xl"}[family])
        shutil.copytree(folder / "tokenizer", tmp_path / "tokenizer")
        return save_single_file(folder, tmp_path / "Some Model.safetensors", family, dtype, **notes), folder

    return made


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_file_becomes_what_it_was_made_of(family: str, file_of: Any, made_workspace: Workspace) -> None:
    path, folder = file_of(family)
    assert family_of(path) == family
    with pytest.raises(NotFetched, match="model add"):
        resolve(made_workspace, str(path))
    told: list[Event] = []
    ref = fetch_model(made_workspace, str(path), told.append)
    assert [(one.name, one.done) for one in told if isinstance(one, Phase)] == [
        ("Unpacking Some Model.safetensors", 0), ("Unpacking Some Model.safetensors", 1),
    ]  # fmt: skip
    mine = load_model(ref, "cpu")
    assert_same(mine, load_model(ModelRef("base", folder), "cpu"))
    assert resolve(made_workspace, str(path)) == ref
    assert [one["name"] for one in fetched_models(made_workspace)] == [ref.folder.name]
    path.touch()
    with pytest.raises(NotFetched):  # the file has changed, for all that is known
        resolve(made_workspace, str(path))


def test_a_file_keeps_its_number_format(file_of: Any, made_workspace: Workspace) -> None:
    path, _ = file_of("sd1", torch.float16)
    ref = fetch_model(made_workspace, str(path))
    header = read_header(ref.folder / "unet" / "diffusion_pytorch_model.safetensors")
    assert {one["dtype"] for name, one in header.items() if name != "__metadata__"} == {"F16"}
    assert load_model(ref, "cpu").unet.dtype == torch.float32


@pytest.mark.parametrize(
    ("notes", "objective"),
    [({"modelspec.prediction_type": "epsilon"}, "epsilon"), ({"modelspec.prediction_type": "v"}, "v")],
)
def test_what_a_file_says_that_it_predicts_is_believed(
    notes: dict[str, str], objective: str, file_of: Any, made_workspace: Workspace
) -> None:
    path, _ = file_of("sd2", **notes)
    model = load_model(fetch_model(made_workspace, str(path)), "cpu")
    assert (model.objective, model.native_size_px) == (objective, {"epsilon": 512, "v": 768}[objective])


def test_a_file_of_the_second_family_that_does_not_say_is_tried(
    narrow_v: Path, tmp_path: Path, made_workspace: Workspace
) -> None:
    """A network that gives nothing back of pure noise predicts v."""
    changed = Path(shutil.copytree(narrow_v, tmp_path / "changed"))
    shutil.copytree(narrow_v / "tokenizer", tmp_path / "tokenizer")
    model = load_model(ModelRef("base", narrow_v), "cpu")
    model.unet.conv_out.weight.zero_()
    model.unet.save_pretrained(changed / "unet")
    path = save_single_file(changed, tmp_path / "v.safetensors", "sd2", torch.float32)
    assert load_model(fetch_model(made_workspace, str(path)), "cpu").objective == "v"


def test_without_a_tokenizer_it_is_said_what_to_give(
    file_of: Any, tmp_path: Path, narrow_v: Path, made_workspace: Workspace
) -> None:
    path, folder = file_of("sd1")
    (tmp_path / "tokenizer").rename(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match=r"holds no tokenizer.*--tokenizer FOLDER"):
        fetch_model(made_workspace, str(path))
    with pytest.raises(UsageError, match=r"no tokenizer of \d+ words"):
        fetch_model(made_workspace, str(path), tokenizer=tmp_path)
    assert stored.unpacked(made_workspace) == []
    ref = fetch_model(made_workspace, str(path), tokenizer=tmp_path / "elsewhere")
    assert_same(load_model(ref, "cpu"), load_model(ModelRef("base", folder), "cpu"))
    other = shutil.copy(path, tmp_path / "other.safetensors")
    assert fetch_model(made_workspace, str(other)).folder != ref.folder  # with the tokenizer of the first


def test_the_shapes_of_the_published_models_give_their_published_settings(shared_data: Path) -> None:
    """Stable Diffusion 1.5: the tensors' shapes on the meta device against the settings that come with it."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from studio.models.checkpoint_names import checkpoint_name
    from tests.studio.single_files import _of_vae

    published = {
        part: json.loads((shared_data / "sd15_config" / part / "config.json").read_text())
        for part in ("unet", "vae", "text_encoder")
    }
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(published["unet"])
        vae = AutoencoderKL.from_config(published["vae"])
    header: dict[str, Any] = {}
    for name, one in unet.state_dict().items():
        module, _, ending = name.rpartition(".")
        header[f"model.diffusion_model.{checkpoint_name(module, unet.config)}.{ending}"] = {"shape": list(one.shape)}
    header |= {
        f"first_stage_model.{_of_vae(name)}": {"shape": list(one.shape)} for name, one in vae.state_dict().items()
    }
    start = "cond_stage_model.transformer.text_model."
    header[f"{start}embeddings.token_embedding.weight"] = {"shape": [49408, 768]}
    header |= {f"{start}encoder.layers.{n}.mlp.fc1.weight": {"shape": [3072, 768]} for n in range(12)}
    found = settings_of(header, "sd1", predicts_v=False)
    for part, told in published.items():
        for key, value in found[f"{part}/config.json"].items():
            if key in told and key not in ("architectures", "bos_token_id", "eos_token_id"):
                assert value == told[key], (part, key)
