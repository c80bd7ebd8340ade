"""Models of the hub, against a server on loopback that speaks its protocol."""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from huggingface_hub import hf_hub_download

from studio.errors import NotFetched, StudioError, UsageError
from studio.events import Event, Phase
from studio.fetching import fetch_model, fetch_where_needed, fetched_models
from studio.models import stored
from studio.models.hub_files import wanted_files
from studio.models.load import load_model
from studio.models.registry import resolve
from studio.workspace import Workspace
from tests.studio.hub_server import COMMIT, Hub

NAME, UNET = "someone/some-model", "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def hub(tiny_flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The tiny model on a hub, with other files around it that nobody needs."""
    folder = Path(shutil.copytree(tiny_flow, tmp_path / "on-the-hub"))
    for name in ("notes.md", "pickled.ckpt", "unet/diffusion_pytorch_model.bin", "vae/model.fp16.safetensors"):
        (folder / name).write_bytes(b"not needed")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    for variable in ("HF_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
    with Hub(folder) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        yield server


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_model_is_downloaded_once_and_pinned(hub: Hub, tiny_flow: Path, made_workspace: Workspace) -> None:
    with pytest.raises(NotFetched, match="model add someone/some-model"):
        resolve(made_workspace, NAME)
    told: list[Event] = []
    ref = fetch_model(made_workspace, NAME, told.append)
    assert ref.name == f"{NAME}@{COMMIT}"
    assert files_of(ref.folder) == files_of(tiny_flow)
    phases = [event for event in told if isinstance(event, Phase)]
    assert {phase.name for phase in phases} == {f"Downloading {NAME} (MB)"}
    assert (phases[0].done, phases[-1].done) == (0, phases[-1].total)
    asked = len(hub.requests)
    for name in (NAME, f"{NAME}@main", ref.name):
        assert fetch_model(made_workspace, name) == ref
    assert len(hub.requests) == asked
    [listed] = fetched_models(made_workspace)
    assert (listed["name"], listed["revision"]) == (ref.name, COMMIT)
    assert listed["bytes"] == sum(map(len, files_of(tiny_flow).values()))
    assert torch.is_tensor(load_model(ref, "cpu").unet.conv_in.weight)


def test_the_hubs_own_library_finds_what_was_downloaded(hub: Hub, made_workspace: Workspace) -> None:
    ref = fetch_model(made_workspace, NAME)
    cache = stored.hub_cache(made_workspace)
    found = hf_hub_download(NAME, UNET, cache_dir=cache, local_files_only=True)
    assert Path(found) == ref.folder / UNET


def test_an_interrupted_download_goes_on_where_it_ended(hub: Hub, tiny_flow: Path, made_workspace: Workspace) -> None:
    size = (tiny_flow / UNET).stat().st_size
    hub.break_after = size // 3 + 1
    ref = fetch_model(made_workspace, NAME)
    assert files_of(ref.folder) == files_of(tiny_flow)
    assert hub.asked(UNET) == ["", f"bytes={size // 3 + 1}-", f"bytes={2 * (size // 3 + 1)}-"]


def test_a_killed_download_goes_on_where_it_ended(
    hub: Hub, tiny_flow: Path, made_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.break_after = 10_000
    monkeypatch.setattr("studio.models.hub._ATTEMPTS", 0)  # as if killed at the first break
    with pytest.raises(StudioError, match="cannot be reached"):
        fetch_model(made_workspace, NAME)
    with pytest.raises(NotFetched):
        resolve(made_workspace, NAME)
    monkeypatch.undo()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    hub.break_after = 0
    assert files_of(fetch_model(made_workspace, NAME).folder) == files_of(tiny_flow)
    assert hub.asked(UNET) == ["", "bytes=10000-"]


def test_a_server_without_ranges_gives_the_whole_file_again(
    hub: Hub, tiny_flow: Path, made_workspace: Workspace
) -> None:
    (unfinished,) = [one for one in hub.siblings() if one["rfilename"] == UNET]
    blobs = stored.repository(stored.hub_cache(made_workspace), NAME) / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{unfinished['lfs']['sha256']}.incomplete").write_bytes(b"the beginning")
    hub.ignores_ranges = True
    assert files_of(fetch_model(made_workspace, NAME).folder) == files_of(tiny_flow)


def test_a_damaged_file_does_not_count(hub: Hub, tiny_flow: Path, made_workspace: Workspace) -> None:
    hub.damaged = True
    with pytest.raises(StudioError, match="arrived damaged"):
        fetch_model(made_workspace, NAME)
    hub.damaged = False
    assert files_of(fetch_model(made_workspace, NAME).folder) == files_of(tiny_flow)


def test_a_token_is_sent_to_the_hub_alone(hub: Hub, made_workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = "hf_canary"
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(UsageError, match=r"or it is private.*set HF_TOKEN") as caught:
        fetch_model(made_workspace, NAME)
    assert "hf_wrong" not in str(caught.value)
    hub.gated = True
    with pytest.raises(UsageError, match=r"gated.*Accept them at"):
        fetch_model(made_workspace, NAME)
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    fetch_model(made_workspace, NAME)
    assert all(said == "Bearer hf_canary" for path, _, said in hub.requests[-30:] if path.startswith(f"/{NAME}"))
    for path in made_workspace.root.rglob("*"):
        assert not path.is_file() or b"hf_canary" not in path.read_bytes(), path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("someone/another", "no model someone/another"),
        ("runwayml/stable-diffusion-v1-5", "It moved to stable-diffusion-v1-5/stable-diffusion-v1-5"),
        (f"{NAME}@v9", "has no revision v9"),
    ],
)
def test_what_the_hub_does_not_have_is_told(name: str, said: str, hub: Hub, made_workspace: Workspace) -> None:
    with pytest.raises(UsageError, match=said):
        fetch_model(made_workspace, name)


def test_without_a_network_one_sentence_says_so(
    hub: Hub, made_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(StudioError, match=r"http://127.0.0.1:1 cannot be reached"):
        fetch_model(made_workspace, NAME)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(StudioError, match="HF_HUB_OFFLINE forbids"):
        fetch_model(made_workspace, NAME)


def test_a_full_disk_is_told_before_and_while_it_fills(
    hub: Hub, made_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
        with pytest.raises(StudioError, match=r"0\.0 GB are free"):
            fetch_model(made_workspace, NAME)

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("studio.models.hub._receive", full)
    with pytest.raises(StudioError, match="The disk is full"):
        fetch_model(made_workspace, NAME)


def test_a_model_in_the_persons_own_cache_is_not_downloaded_again(
    hub: Hub, made_workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "their-cache"))
    snapshot = stored.repository(tmp_path / "their-cache", NAME)
    (snapshot / "refs").mkdir(parents=True)
    (snapshot / "refs" / "main").write_text(COMMIT)
    folder = snapshot / "snapshots" / COMMIT
    shutil.copytree(hub.folder, folder)
    assert fetch_model(made_workspace, NAME).folder == folder
    (folder / UNET).unlink()  # theirs is not whole
    (folder / "unet/diffusion_pytorch_model.bin").unlink()
    assert fetch_model(made_workspace, NAME).folder != folder


def test_jobs_fetch_what_they_need_and_leave_the_rest_to_who_makes_them(hub: Hub, made_workspace: Workspace) -> None:
    fetch_where_needed(made_workspace, "no-such-run", lambda event: None)
    assert hub.requests == []
    fetch_where_needed(made_workspace, NAME, lambda event: None)
    assert resolve(made_workspace, NAME).folder.is_dir()


PARTS = ("unet", "vae", "text_encoder")
SETTINGS = {"model_index.json", "scheduler/scheduler_config.json", *(f"{part}/config.json" for part in PARTS)}
WHOLE = SETTINGS | {
    "tokenizer/vocab.json", UNET, "vae/diffusion_pytorch_model.safetensors", "text_encoder/model.safetensors",
}  # fmt: skip


class TestWantedFiles:
    def test_only_what_is_needed_is_taken(self) -> None:
        others = {"v1-5-pruned.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors"}
        others |= {"unet/diffusion_pytorch_model.bin", "safety_checker/model.safetensors", "feature_extractor/a.json"}
        assert set(wanted_files(NAME, WHOLE | others)) == WHOLE
        assert set(wanted_files(NAME, WHOLE | {"README.md"})) == WHOLE | {"README.md"}  # its licence

    def test_half_precision_is_taken_where_there_is_no_other(self) -> None:
        half = (WHOLE - {UNET}) | {"unet/diffusion_pytorch_model.fp16.safetensors"}
        assert set(wanted_files(NAME, half)) == half

    def test_shards_come_with_their_index(self) -> None:
        stem = "unet/diffusion_pytorch_model"
        shards = {f"{stem}.safetensors.index.json", f"{stem}-00001-of-00002.safetensors"}
        shards |= {f"{stem}-00002-of-00002.safetensors"}
        assert set(wanted_files(NAME, (WHOLE - {UNET}) | shards)) == (WHOLE - {UNET}) | shards

    def test_xl_needs_twice_the_text(self) -> None:
        second = {"text_encoder_2/config.json", "text_encoder_2/model.safetensors", "tokenizer_2/merges.txt"}
        assert set(wanted_files(NAME, WHOLE | second)) == WHOLE | second

    @pytest.mark.parametrize(
        ("names", "said"),
        [
            ({"a.safetensors", "README.md"}, "Download a.safetensors and name the file"),
            ({"model_index.json", "transformer/config.json"}, "is no Stable Diffusion"),
            ((WHOLE - {UNET}) | {"unet/diffusion_pytorch_model.bin"}, "only as a pickle"),
            (WHOLE - {UNET}, "no weights of its unet"),
        ],
    )
    def test_what_cannot_be_used_is_not_downloaded(self, names: set[str], said: str) -> None:
        with pytest.raises(UsageError, match=said):
            wanted_files(NAME, names)
