"""Adding models, and laying LoRA files over them, from the command line."""

import shutil
import socket
from pathlib import Path
from typing import NoReturn

import huggingface_hub.constants
import pytest
import torch

from studio.images import read_recipe
from studio.models.load import load_model
from studio.models.registry import resolve
from studio.workspace import Workspace, make_workspace
from tests.studio.command_line import Say, speaker
from tests.studio.models.test_lora import trained
from tests.studio.single_files import save_single_file


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Say:
    return speaker(capfd)


def test_a_single_file_is_added_and_listed(say: Say, narrow_first: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    path = save_single_file(narrow_first, tmp_path / "one.safetensors", "sd1", torch.float32)
    refused = say("--json", workspace, "generate", "--prompt", "a river", "--model", path)
    assert (refused.code, "--tokenizer FOLDER" in refused.error) == (2, True)
    added = say("--json", workspace, "model", "add", path, "--tokenizer", narrow_first / "tokenizer")
    assert (added.code, added.result["model"]) == (0, str(path))
    listed = say("--json", workspace, "model", "list")
    assert [one["folder"] for one in listed.records[:-1]] == [added.result["folder"]]
    size = sum(one.stat().st_size for one in Path(added.result["folder"]).rglob("*") if one.is_file())
    assert (listed.result["models"], listed.records[0]["bytes"]) == (1, size)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["add"], "No model is named"),
        (["add", "nothing-here"], "no model named nothing-here"),
        (["list"], None),
        (["steal", "x"], "choose from"),
    ],
)
def test_what_cannot_be_added_is_told(words: list[str], said: str | None, say: Say, tmp_path: Path) -> None:
    make_workspace(tmp_path / "workspace")
    answer = say("--json", tmp_path / "workspace", "model", *words)
    assert answer.code == (0 if said is None else 2)
    assert said is None or said in answer.error


def test_a_tile_made_with_a_lora_carries_it_in_its_recipe_and_is_made_again(
    say: Say, narrow_v: Path, tmp_path: Path
) -> None:
    workspace, lora = tmp_path / "workspace", trained(narrow_v, tmp_path)
    words = ["generate", "--model", narrow_v, "--prompt", "one river", "--steps", "2", "--size", "64"]
    made = say("--json", workspace, *words, "--lora", f"{lora}:0.5", "--as", "with")
    assert made.code == 0
    assert say("--json", workspace, *words, "--as", "without").code == 0
    [tile], [plain] = (sorted((workspace / "batches" / name).rglob("*.png")) for name in ("with", "without"))
    assert read_recipe(tile)["loras"] == [f"{lora}:0.5"]
    assert read_recipe(tile)["weights_sha256"] != read_recipe(plain)["weights_sha256"]
    again = say("--json", workspace, "reproduce", tile)
    assert again.result["identical"] is True
    missing = say("--json", workspace, *words, "--lora", tmp_path / "none.safetensors")
    assert (missing.code, "There is no file" in missing.error) == (2, True)


def test_the_list_of_models_takes_no_name(say: Say, made_workspace: Workspace) -> None:
    refused = say("--json", made_workspace.root, "model", "list", "extra")
    assert (refused.code, refused.error) == (2, "model list takes no extra. Write: model list")


def test_nothing_that_is_opened_asks_the_network(
    narrow_xl: Path, made_workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where nobody told the libraries that they are offline."""

    def forbidden(*args: object) -> NoReturn:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(socket.socket, "connect", forbidden)
    monkeypatch.setattr(socket, "getaddrinfo", forbidden)
    folder = Path(shutil.copytree(narrow_xl, tmp_path / "model"))
    model = load_model(resolve(made_workspace, str(folder)), "cpu")
    with torch.inference_mode():
        assert model.embed(["one river"]).pooled is not None
