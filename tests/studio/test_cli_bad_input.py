"""What cannot be used is told in one clear sentence, ends with 2, and leaves the workspace as it was."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from studio import jobs, requests
from studio.control import Control
from studio.errors import UsageError
from studio.events import Started
from studio.jobs import execute
from studio.settings import ImportSettings
from studio.workspace import make_workspace
from tests.studio.command_line import Answer, Say, speaker
from tests.studio.datasets.imports import fill, metadata, picture
from tests.studio.listing import listing

THREE_FAULTS = 'schema = 1\ndevice = "gpu"\ncpu_threads = -2\ncolour = "red"\n'
IN_A_TERMINAL = """
import os, pty, sys
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.executable, [sys.executable, "-c", "from studio.cli import entry; entry()", *sys.argv[1:]])
told = b""
try:
    while data := os.read(terminal, 4096):
        told += data
except OSError:
    pass
sys.stdout.buffer.write(told)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.fixture
def say(capfd: pytest.CaptureFixture[str]) -> Say:
    return speaker(capfd)


@pytest.fixture
def ws(tmp_path: Path) -> Path:
    """A workspace with a data set and a run that has not begun."""
    workspace = make_workspace(tmp_path / "ws")
    execute(requests.import_job(workspace, ImportSettings(source="demo:14", name="demo", hold_out=4)), Control())
    (workspace.runs / "0001-lora").mkdir()
    return workspace.root


def refused(say: Say, folder: Path, *words: str | Path) -> Answer:
    """The answer in JSON of a command that must be refused, in both its forms, without changing the folder."""
    before = listing(folder)
    plain, answer = say(*words), say(*words, "--json")
    assert (plain.code, answer.code) == (2, 2), plain.err
    assert plain.out == ""
    assert len(plain.err.splitlines()) == 1
    assert "Traceback" not in plain.err
    assert answer.result["outcome"] == "failed"
    assert answer.result["error"]["message"].endswith((".", "?"))
    assert listing(folder) == before
    return answer


def writing(ws: Path, source: Path) -> list[list[str | Path]]:
    """Every command that writes, with arguments that are right."""
    return [
        [ws, "init"],
        [ws, "demo"],
        [ws, "import", source, "--as", "new", "--caption", "x"],
        [ws, "train", "--recipe", "lora", "--data", "demo"],
        [ws, "generate", "--prompt", "a river"],
    ]


# The workspace


def test_a_workspace_that_is_a_file(say: Say, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    source = fill(tmp_path / "source", {"a.png": picture()})
    for words in [*writing(file, source), [file, "runs"], *writing(file / "below", source)]:
        assert "is a file" in refused(say, tmp_path, *words).error


def test_a_read_only_folder_for_a_command_that_writes(say: Say, ws: Path, tmp_path: Path) -> None:
    source = fill(tmp_path / "source", {"a.png": picture()})
    (tmp_path / "locked").mkdir(mode=0o500)
    for words in writing(tmp_path / "locked" / "ws", source):
        if words[1] != "train":  # there is no data set yet to train on, which is told first
            assert "read-only" in refused(say, tmp_path, *words).error
    ws.chmod(0o500)
    out = tmp_path / "out"
    for words in [*writing(ws, source), [ws, "export", "demo", "--to", "gallery", out]]:
        assert "read-only" in refused(say, tmp_path, *words).error
    assert say(ws, "runs").code == 0
    ws.chmod(0o700)


def test_a_folder_of_other_things_is_no_place_for_a_workspace(say: Say, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.doc").write_text("x")
    for words in writing(tmp_path / "home", fill(tmp_path / "source", {"a.png": picture()})):
        if words[1] != "train":
            assert "is not a workspace" in refused(say, tmp_path, *words).error


def test_reading_needs_a_workspace(say: Say, tmp_path: Path) -> None:
    none = tmp_path / "none"
    commands = (
        "runs", "watch", "control 1 stop", "check", "check --deep", "suggest", "resume 1", "reproduce x.png",
        "evaluate --generated x --real y", "downstream --synthetic x --real y", "export x --to gallery y",
    )  # fmt: skip
    for words in map(str.split, commands):
        assert "There is no workspace at" in refused(say, tmp_path, none, *words).error


def test_three_faults_of_the_settings_are_all_named(say: Say, ws: Path, tmp_path: Path) -> None:
    (ws / "studio.toml").write_text(THREE_FAULTS)
    source = fill(tmp_path / "source", {"a.png": picture()})
    for words in [*writing(ws, source), [ws, "runs"], [ws, "check"], [ws, "suggest"], [ws, "resume", "1"],
                  [ws, "export", "demo", "--to", "gallery", tmp_path / "out"]]:  # fmt: skip
        answer = refused(say, tmp_path, *words)
        assert {fault["path"] for fault in answer.result["faults"]} == {"device", "cpu_threads", "colour"}
        assert "3 faults" in answer.error
        for name in ("device", "cpu_threads", "colour"):
            assert name in answer.error


def test_settings_that_are_not_toml(say: Say, ws: Path, tmp_path: Path) -> None:
    for content in (b"device = ", b"\xff\xfe", b"[" * 10_000):
        (ws / "studio.toml").write_bytes(content)
        assert "is not TOML" in refused(say, tmp_path, ws, "runs").error


# Sources


def test_a_source_that_holds_nothing(say: Say, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    missing = fill(tmp_path / "missing", {"metadata.jsonl": metadata([{"file_name": "gone.png", "text": "x"}])})
    texts = fill(tmp_path / "texts", {"a.jpg": "hello", "b.png": "hello"})
    for source in (tmp_path / "empty", missing, texts, tmp_path / "none", "demo:0", "demo:many"):
        refused(say, tmp_path, tmp_path / "ws", "import", source, "--as", "x", "--caption", "y")
    assert not (tmp_path / "ws").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--hold-out", "10"], "cannot be held out"),
        (["--hold-out", "-1"], "hold_out"),
        (["--format", "floppy"], "There is no format named floppy"),
        (["--classes", "river,tawn"], "town"),
        (["--caption", "a {colour} image"], "colour"),
    ],
)
def test_an_import_asked_for_wrongly(options: list[str], told: str, say: Say, tmp_path: Path) -> None:
    source = fill(tmp_path / "source", {f"{name}/{n}.png": picture(n) for name in ("river", "town") for n in range(2)})
    answer = refused(say, tmp_path, tmp_path / "ws", "import", source, "--as", "x", *options)
    assert told in answer.error


# Names


@pytest.mark.parametrize("name", ["../x", "a/b", "..", "/tmp/x", "A", "", "a b", "é", "a\nb", "-x", ".x", "x" * 300])
def test_a_name_that_cannot_be_a_name(name: str, say: Say, ws: Path, tmp_path: Path) -> None:
    tests = [["import", "demo:10", f"--as={name}"]]
    if name:  # without a name, one is given
        tests += [["train", "--recipe", "lora", "--data", "demo", f"--name={name}"],
                  ["generate", "--prompt", "a river", f"--as={name}"]]  # fmt: skip
    for words in tests:
        assert "cannot be the name" in refused(say, tmp_path, ws, *words).error


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (["train", "--recipe", "lroa", "--data", "demo"], "lora"),
        (["train", "--recipe", "lora", "--data", "dmeo"], "demo"),
        (["train", "--recipe", "lora", "--data", "demo", "--set", "base=stater"], "starter"),
        (["train", "--recipe", "lora", "--data", "demo", "--set", "stpes=3"], "steps"),
        (["train", "--recipe", "lora", "--data", "demo", "--set", "split=tarin"], "train"),
        (["resume", "lorra"], "lora"),
        (["watch", "lorra"], "lora"),
        (["control", "lorra", "stop"], "lora"),
        (["generate", "--model", "stater", "--prompt", "x"], "starter"),
        (["generate", "--model", "lorra@100", "--prompt", "x"], "lora"),
        (["generate", "--prompts", "land-cver"], "land-cover"),
        (["generate", "--prompts", "demo:hold-out"], "held-out"),
        (["export", "dmeo", "--to", "gallery", "out"], "demo"),
        (["suggest", "--class", "forrest"], "forest"),
        (["generate", "--plan", "land-cover-338"], "land-cover-388"),
        (["grid", "--prompt", "x", "--x", "stps=1,2"], "steps"),
        (["grid", "--prompt", "x", "--x", "model=statrer"], "starter"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_an_unknown_name_is_told_with_the_nearest(
    words: list[str], nearest: str, say: Say, ws: Path, tmp_path: Path
) -> None:
    assert nearest in refused(say, tmp_path, ws, *words).result["error"]["hint"]


def test_unknown_names_where_nothing_is_yet_make_no_workspace(say: Say, tmp_path: Path) -> None:
    for words in (["train", "--recipe", "lroa", "--data", "x"], ["train", "--recipe", "lora", "--data", "x"],
                  ["generate", "--model", "nome", "--prompt", "x"], ["generate", "--prompts", "none.txt"],
                  ["generate", "--plan", "none.toml"], ["generate", "--prompt", "x", "--size", "big"],
                  ["grid", "--x", "steps=1,2"], ["grid", "--prompt", "x", "--x", "steps=1,0"],
                  ["generate", "--prompt", "x", "--steps", "0"], ["generate", "--prompt", "x", "--sampler", "magic"],
                  ["generate", "--prompt", "x", "--count", "-1"], ["generate", "--prompt", "{a|b"]):  # fmt: skip
        refused(say, tmp_path, tmp_path / "ws", *words)
    assert not (tmp_path / "ws").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--prompt", ""], "The prompt is empty."),
        (["--prompt", "x", "--size", "64x"], "64x is not a size."),
        (["--prompt", "x", "--size", "x64"], "x64 is not a size."),
        (["--plan", "./no.toml"], "There is no class plan ./no.toml."),
        (["--prompt", "x", "--mask", "m.png"], "The generation has 1 fault: a mask needs a picture"),
    ],
)
def test_a_generation_asked_for_wrongly(words: list[str], told: str, say: Say, ws: Path, tmp_path: Path) -> None:
    assert told in refused(say, tmp_path, ws, "generate", *words).error


def test_what_a_job_finds_wrong_by_itself_makes_no_workspace(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(context: jobs.Context) -> jobs.Done:
        context.emit(Started("generate", context.device))
        raise UsageError("The LoRA does not fit the model.", "Choose another.")

    monkeypatch.setitem(jobs.KINDS, "generate", refusing)
    refused(say, tmp_path, tmp_path / "new", "generate", "--prompt", "x")
    assert not (tmp_path / "new").exists()


def test_a_workspace_that_was_there_stays_whatever_a_job_finds(
    say: Say, ws: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(context: jobs.Context) -> jobs.Done:
        raise UsageError("The LoRA does not fit the model.", "Choose another.")

    monkeypatch.setitem(jobs.KINDS, "generate", refusing)
    fresh = make_workspace(tmp_path / "fresh").root
    for root in (ws, fresh):
        refused(say, tmp_path, root, "generate", "--prompt", "x")


def test_a_sweep_that_cannot_begin_leaves_its_name_free(say: Say, ws: Path, tmp_path: Path) -> None:
    words = ["sweep", "--recipe", "lora", "--vary", "rank=1,2", "--name", "sw"]
    for root in (ws, tmp_path / "new"):
        assert "no data set named nope" in refused(say, tmp_path, root, *words, "--data", "nope").error
    assert not (tmp_path / "new").exists()
    assert "starter" in refused(say, tmp_path, ws, *words, "--data", "demo", "--vary", "base=starter,stater").error
    (ws / "runs" / "0002-sw-2").mkdir()
    assert "the name of runs/0002-sw-2" in refused(say, tmp_path, ws, *words, "--data", "demo").error


def test_hostile_names_reach_no_terminal(say: Say, ws: Path, tmp_path: Path) -> None:
    for words in (["resume", "\x1b]52;c;x\x07"], ["train", "--recipe", "a\x1b[2J\nb", "--data", "demo"]):
        refused(say, tmp_path, ws, *words)
        assert "\x1b" not in say(ws, *words).err
    assert "\x1b" not in say(tmp_path / "\x1b]0;x\x07", "runs").err
    assert "\x1b" not in say(tmp_path / "\x1b]0;x\x07").err


def test_a_taken_name(say: Say, ws: Path, tmp_path: Path) -> None:
    for words in (["import", "demo:10", "--as", "demo"], ["generate", "--prompt", "x", "--as", "demo"],
                  ["train", "--recipe", "lora", "--data", "demo", "--name", "demo"]):  # fmt: skip
        assert "The name demo is taken" in refused(say, tmp_path, ws, *words).error


def test_a_target_that_is_not_empty(say: Say, ws: Path, tmp_path: Path) -> None:
    fill(tmp_path / "out", {"thesis.doc": "x"})
    (tmp_path / "file").write_text("x")
    for target in (tmp_path / "out", tmp_path / "file", tmp_path / "file" / "below"):
        refused(say, tmp_path, ws, "export", "demo", "--to", "image-folder", target)


# Models


def diffusers_folder(folder: Path, weights: dict[str, bytes]) -> Path:
    """A folder in diffusers layout, with these bytes as weights."""
    fill(
        folder,
        {
            "model_index.json": '{"_class_name": "StableDiffusionPipeline"}',
            **{f"{part}/config.json": "{}" for part in weights},
        },
    )
    for part, data in weights.items():
        name = "model.safetensors" if part == "text_encoder" else "diffusion_pytorch_model.safetensors"
        (folder / part / name).write_bytes(data)
    return folder


class Canary:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> object:
        return os.mkdir, (str(self._path),)


def test_a_pickle_that_calls_itself_safetensors(say: Say, tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {}}).encode()
    good = len(header).to_bytes(8, "little") + header
    evil = pickle.dumps(Canary(tmp_path / "canary"))
    zipped = b"PK\x03\x04" + evil
    for data in (evil, zipped, b"", b"\0" * 100, (2**40).to_bytes(8, "little") + evil):
        for part in ("unet", "vae", "text_encoder"):
            weights = {"unet": good, "vae": good, "text_encoder": good} | {part: data}
            folder = diffusers_folder(tmp_path / "model", weights)
            answer = refused(say, tmp_path, tmp_path / "ws", "generate", "--model", folder, "--prompt", "x")
            assert "safetensors" in answer.error
    for name in ("model.safetensors", "model.ckpt"):
        (tmp_path / name).write_bytes(evil)
        refused(say, tmp_path, tmp_path / "ws", "generate", "--model", tmp_path / name, "--prompt", "x")
    assert not (tmp_path / "canary").exists()


def test_pickles_with_their_own_name_are_told_apart_from_nothing(say: Say, tmp_path: Path) -> None:
    folder = diffusers_folder(tmp_path / "model", {"vae": b"", "text_encoder": b""})
    fill(folder, {"unet/diffusion_pytorch_model.bin": pickle.dumps([1])})
    answer = refused(say, tmp_path, tmp_path / "ws", "generate", "--model", folder, "--prompt", "x")
    assert "pickle" in answer.error


# Tiles


def test_a_tile_without_a_recipe_cannot_be_made_again(say: Say, ws: Path, tmp_path: Path) -> None:
    fill(tmp_path, {"plain.png": picture(), "text.png": "hello"})
    for tile in (tmp_path / "plain.png", tmp_path / "text.png", tmp_path / "none.png", tmp_path):
        refused(say, tmp_path, ws, "reproduce", tile)


# The terminal


@pytest.mark.parametrize("name", ["dumb", ""])
def test_a_terminal_that_only_prints_opens_no_studio(name: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", IN_A_TERMINAL, "ws"], cwd=tmp_path, env=os.environ | {"TERM": name},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 2
    assert f"TERM={name}" in ran.stdout
    assert "\x1b" not in ran.stdout
    assert list(tmp_path.iterdir()) == []


def test_faulty_settings_open_no_studio(say: Say, ws: Path, tmp_path: Path) -> None:
    (ws / "studio.toml").write_text(THREE_FAULTS)
    ran = subprocess.run(
        [sys.executable, "-c", IN_A_TERMINAL, "ws"], cwd=tmp_path, env=os.environ | {"TERM": "xterm-256color"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 2
    assert "3 faults" in ran.stdout
