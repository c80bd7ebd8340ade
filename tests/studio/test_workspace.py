import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from studio import workspace as module
from studio.errors import UsageError
from studio.workspace import (
    Workspace,
    can_hold_workspace,
    check_name,
    free_name,
    make_workspace,
    naming,
    next_numbered,
    open_workspace,
    slug,
)
from tests.hostile import PATHS, PAYLOADS

NUMBER_MANY = """
import sys
from pathlib import Path
from studio.workspace import Workspace, naming, next_numbered
workspace = Workspace(Path(sys.argv[1]))
sys.stdin.readline()
for turn in range(10):
    with naming(workspace):
        next_numbered(workspace.runs, f"of-{sys.argv[2]}")
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "ws")


# Making and opening


def test_a_new_workspace_has_what_the_template_has_and_no_copy_of_the_model(workspace: Workspace) -> None:
    assert workspace.settings_path.is_file()
    assert (workspace.recipes / "lora.toml").is_file()
    assert list(workspace.prompts.glob("*.toml"))
    assert not list(workspace.root.rglob("*.safetensors"))


def test_making_it_again_changes_nothing(workspace: Workspace) -> None:
    workspace.settings_path.write_text("schema = 1  # mine\n")
    (workspace.recipes / "lora.toml").unlink()
    make_workspace(workspace.root)
    assert workspace.settings_path.read_text() == "schema = 1  # mine\n"
    assert not (workspace.recipes / "lora.toml").exists()


def test_a_making_that_was_killed_is_finished_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module.files, "write_bytes", lambda path, data: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make_workspace(tmp_path / "ws")
    with pytest.raises(UsageError, match="There is no workspace"):
        open_workspace(tmp_path / "ws")
    assert make_workspace(tmp_path / "ws").settings_path.is_file()


def test_an_empty_folder_may_become_a_workspace(tmp_path: Path) -> None:
    assert make_workspace(tmp_path).settings_path.is_file()


def test_what_is_no_place_for_a_workspace_is_told_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").write_text("x")
    (tmp_path / "locked").mkdir(mode=0o500)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.rglob("*"))
    for name, told in {
        "file": "is a file", "file/below": "is a file", "full": "holds other files", "locked": "read-only",
        "locked/below/it": "read-only", "dangling": "is a file",
    }.items():  # fmt: skip
        with pytest.raises(UsageError, match=told):
            make_workspace(tmp_path / name)
        with pytest.raises(UsageError, match=told):
            can_hold_workspace(tmp_path / name)
    assert sorted(tmp_path.rglob("*")) == before


def test_opening_needs_a_workspace(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        open_workspace(tmp_path / "file")
    with pytest.raises(UsageError, match="Make one with"):
        open_workspace(tmp_path / "none")


# Names


@pytest.mark.parametrize("name", ["a", "0", "river-delta_2.1", "a" * 80, "7"])
def test_names_of_small_letters_digits_and_three_signs_are_good(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "../a",
        "a..b",
        "/a",
        "-a",
        "_a",
        ".a",
        "A",
        "é",
        "a b",
        "a\n",
        "a\0",
        "a" * 81,
        "a\\b",
        "²",
    ],
)
def test_names_that_could_leave_their_folder_or_hide_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be the name"):
        check_name(name)


@pytest.mark.parametrize("text", [*PAYLOADS, *PATHS, "Zürich Süd", "日本", "a" * 300])
def test_any_text_has_a_name_near_to_it(text: str) -> None:
    assert check_name(slug(text)) == slug(text)


def test_a_taken_name_gets_a_number(tmp_path: Path) -> None:
    assert free_name("lora", {}) == "lora"
    assert free_name("lora", {"lora": tmp_path, "lora-2": tmp_path}) == "lora-3"


def test_names_are_one_list_over_everything(workspace: Workspace) -> None:
    for folder in (workspace.datasets / "a", workspace.runs / "0001-b", workspace.batches / "c"):
        folder.mkdir()
    (workspace.collections / "d").mkdir()
    (workspace.datasets / ".tmp-1-e").mkdir()
    assert set(workspace.taken_names()) == {"a", "b", "c", "d"}


@pytest.mark.parametrize("name", ["../datasets", "/etc", ".", "..", "", "a/b", "./a", "A"])
def test_only_names_that_are_there_lead_anywhere(name: str, workspace: Workspace) -> None:
    (workspace.batches / "a").mkdir()
    with pytest.raises(UsageError, match="There is no batch named"):
        workspace.batch(name)


# Runs


def test_a_run_is_found_by_number_name_or_folder(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    lora, full = next_numbered(workspace.runs, "lora"), next_numbered(workspace.runs, "full")
    monkeypatch.chdir(workspace.runs)
    for given in ("2", "0002", "full", "0002-full", str(full), "./0002-full", f"{full}/"):
        assert workspace.run(given) == full
    assert workspace.run("1") == lora


def test_a_number_means_the_run_of_that_number_even_where_another_is_called_so(workspace: Workspace) -> None:
    named, second = next_numbered(workspace.runs, "2"), next_numbered(workspace.runs, "x")
    assert workspace.run("2") == second
    assert workspace.run("0001-2") == named


@pytest.mark.parametrize("name", ["9", "lroa", "", ".", "..", "²", "٣", "../runs/0001-lora", "/", "0001-lora/x", "-1"])
def test_a_run_that_is_not_there_is_told_with_the_nearest(name: str, workspace: Workspace) -> None:
    next_numbered(workspace.runs, "lora")
    with pytest.raises(UsageError, match=re.escape(f"There is no run named {name}")) as caught:
        workspace.run(name)
    assert "lora" in caught.value.hint


def test_numbers_go_on_from_the_last_even_where_one_is_deleted(workspace: Workspace) -> None:
    first, second = next_numbered(workspace.runs, "a"), next_numbered(workspace.runs)
    first.rmdir()
    assert (first.name, second.name) == ("0001-a", "0002")
    assert next_numbered(workspace.runs, "a").name == "0003-a"


def test_racing_processes_never_get_the_same_number(workspace: Workspace) -> None:
    command = [sys.executable, "-c", NUMBER_MANY, str(workspace.root)]
    racers = [subprocess.Popen([*command, str(n)], stdin=subprocess.PIPE, text=True) for n in range(4)]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    assert [racer.communicate() and racer.returncode for racer in racers] == [0] * 4
    numbers = sorted(int(path.name.partition("-")[0]) for path in workspace.runs.iterdir())
    assert numbers == list(range(1, 41))


def test_taking_a_name_makes_the_workspace_and_leaves_no_file_of_its_own(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "made")
    with naming(Workspace(tmp_path / "named")):
        pass
    assert {path.name for path in (tmp_path / "named").iterdir()} == {path.name for path in workspace.root.iterdir()}
    os.chmod(tmp_path / "named", 0o500)
    with pytest.raises(UsageError, match="read-only"), naming(Workspace(tmp_path / "named")):
        pass
