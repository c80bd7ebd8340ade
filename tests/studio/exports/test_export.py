import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from studio import collections, files
from studio.control import Control
from studio.errors import UsageError
from studio.events import Phase, Refused
from studio.exports.export import check_export
from studio.settings import ExportSettings
from studio.workspace import Workspace
from tests.studio.exports.conftest import CLASSES, make_batch

FOLDER_FORMS = ("image-folder", "parquet", "gallery")


def everything_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("to", FOLDER_FORMS)
def test_an_export_appears_whole_with_a_manifest(
    workspace: Workspace, tmp_path: Path, run_export: Any, to: str
) -> None:
    make_batch(workspace, "river", ["a river"] * 3)
    finished, events = run_export("river", to, tmp_path / "out")
    assert finished.outcome == "completed"
    assert finished.result["target"] == str(tmp_path / "out")
    assert finished.result["pictures"] == 3
    assert finished.result["files"] == sum(path.is_file() for path in (tmp_path / "out").rglob("*"))
    assert not files.manifest_faults(tmp_path / "out")
    assert [event for event in events if isinstance(event, Phase)][-1] == Phase("Exporting pictures", 3, 3)
    assert {path.name for path in tmp_path.iterdir()} == {"workspace", "out"}


@pytest.mark.parametrize("to", [*FOLDER_FORMS, "contact-sheet"])
def test_an_empty_target_is_filled(workspace: Workspace, tmp_path: Path, run_export: Any, to: str) -> None:
    make_batch(workspace, "river", ["a river"])
    target = tmp_path / "out"
    target.touch() if to == "contact-sheet" else target.mkdir()
    assert run_export("river", to, target)[0].outcome == "completed"


@pytest.mark.parametrize("to", [*FOLDER_FORMS, "contact-sheet"])
def test_a_taken_target_is_refused_and_left_alone(
    workspace: Workspace, tmp_path: Path, run_export: Any, to: str
) -> None:
    make_batch(workspace, "river", ["a river"])
    taken = tmp_path / "out"
    if to == "contact-sheet":
        taken.write_text("mine")
    else:
        taken.mkdir()
        (taken / "mine").touch()
    before = everything_below(taken)
    finished, _ = run_export("river", to, taken)
    assert (finished.outcome, finished.exit_code) == ("failed", 2)
    assert everything_below(taken) == before


@pytest.mark.parametrize(
    ("name", "to", "target", "words"),
    [
        ("rivers", "parquet", "out", "Did you mean river?"),
        ("river", "adapter", "out", "comes from a run"),
        ("river", "contact-sheet", "sheet.jpg", "ends in .png"),
        ("river", "parquet", "file/out", "is a file"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_anything_is_written(
    workspace: Workspace, tmp_path: Path, name: str, to: Any, target: str, words: str
) -> None:
    make_batch(workspace, "river", ["a river"])
    (tmp_path / "file").touch()
    before = everything_below(tmp_path)
    with pytest.raises(UsageError) as refusal:
        check_export(workspace, ExportSettings(name=name, to=to, target=str(tmp_path / target)))
    assert words in str(refusal.value)
    assert everything_below(tmp_path) == before


def test_pictures_have_no_precision_to_choose(workspace: Workspace, tmp_path: Path) -> None:
    make_batch(workspace, "river", ["a river"])
    told = {"name": "river", "to": "parquet", "target": str(tmp_path / "out")}
    with pytest.raises(UsageError, match="Pictures have no precision to choose"):
        check_export(workspace, ExportSettings.model_validate({**told, "precision": "fp16"}))
    check_export(workspace, ExportSettings.model_validate({**told, "precision": "fp32"}))


def test_an_empty_batch_is_refused(workspace: Workspace, tmp_path: Path, run_export: Any) -> None:
    (workspace.batches / "river").mkdir(parents=True)
    finished, _ = run_export("river", "gallery", tmp_path / "out")
    assert finished.exit_code == 2
    assert "holds no pictures" in finished.message


@pytest.mark.parametrize("to", FOLDER_FORMS)
def test_broken_tiles_are_named_and_left_out(workspace: Workspace, tmp_path: Path, run_export: Any, to: str) -> None:
    tiles = make_batch(workspace, "river", ["a river"] * 4) / "tiles"
    (tiles / "000002.png").write_bytes((tiles / "000002.png").read_bytes()[:3000])
    (tiles / "000003.png").write_text("no picture")
    finished, events = run_export("river", to, tmp_path / "out")
    refused = [event.file for event in events if isinstance(event, Refused)]
    assert refused == ["batches/river/tiles/000002.png", "batches/river/tiles/000003.png"]
    assert finished.result["pictures"] == 2


def test_a_batch_of_broken_tiles_fails_and_leaves_nothing(
    workspace: Workspace, tmp_path: Path, run_export: Any
) -> None:
    (make_batch(workspace, "river", ["a river"]) / "tiles" / "000001.png").write_text("no picture")
    finished, _ = run_export("river", "parquet", tmp_path / "out")
    assert finished.exit_code == 1
    assert everything_below(tmp_path) & {"out"} == set()


@pytest.mark.parametrize("to", [*FOLDER_FORMS, "contact-sheet"])
def test_a_stopped_export_leaves_nothing(workspace: Workspace, tmp_path: Path, run_export: Any, to: str) -> None:
    make_batch(workspace, "river", ["a river"])
    control = Control()
    control.ask("stop")
    finished, _ = run_export("river", to, tmp_path / "out.png", control)
    assert (finished.outcome, finished.exit_code) == ("stopped", 75)
    assert {path.name for path in tmp_path.iterdir()} == {"workspace"}


def test_a_collection_keeps_its_order_and_titles(workspace: Workspace, tmp_path: Path, run_export: Any) -> None:
    tiles = make_batch(workspace, "river", ["first", "second", "third"], CLASSES) / "tiles"
    collections.add(workspace, "deltas", [tiles / "000003.png", tiles / "000001.png", tiles / "000003.png"])
    assert [tile.file[-10:] for tile in collections.load(workspace, "deltas").tiles] == ["000003.png", "000001.png"]
    assert run_export("deltas", "gallery", tmp_path / "out")[0].outcome == "completed"
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<h1>Deltas</h1>" in page
    assert page.index("third") < page.index("first")
    assert "second" not in page


def test_a_lost_tile_of_a_collection_is_named(workspace: Workspace, tmp_path: Path, run_export: Any) -> None:
    tiles = make_batch(workspace, "river", ["first", "second"]) / "tiles"
    collections.add(workspace, "deltas", sorted(tiles.iterdir()))
    (tiles / "000001.png").unlink()
    finished, events = run_export("deltas", "image-folder", tmp_path / "out")
    assert finished.result["pictures"] == 1
    assert "no file" in next(event.reason for event in events if isinstance(event, Refused))


def test_remains_of_a_killed_export_are_swept(workspace: Workspace, tmp_path: Path, run_export: Any) -> None:
    make_batch(workspace, "river", ["a river"])
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    dead, alive = tmp_path / f".tmp-{process.pid}-out", tmp_path / f".tmp-{os.getppid()}-out"
    other = tmp_path / f".tmp-{process.pid}-another-out"
    for folder in (dead, alive, other):
        (folder / "images").mkdir(parents=True)
    assert run_export("river", "gallery", tmp_path / "out")[0].outcome == "completed"
    assert [folder.exists() for folder in (dead, alive, other)] == [False, True, True]


KILLED = """
import os, sys
from pathlib import Path
from studio.control import Control
from studio.jobs import Job, execute
from studio.runs import JobFolder
from studio.settings import ExportSettings
from studio.workspace import Workspace
root, target, to, at = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
settings = ExportSettings(name="river", to=to, target=target)
folder = JobFolder(root / "exports" / "0001")
folder.path.mkdir(parents=True, exist_ok=True)
count = 0
class Killing(Control):
    @property
    def stopping(self):
        global count
        count += 1
        if count == at:
            os.kill(os.getpid(), 9)
        return False
print(execute(Job("export", Workspace(root), folder, settings), Killing()).outcome)
"""


@pytest.mark.parametrize("to", FOLDER_FORMS)
def test_an_export_killed_in_the_middle_leaves_no_target_and_can_be_done_again(
    workspace: Workspace, tmp_path: Path, to: str
) -> None:
    make_batch(workspace, "river", ["a river"] * 4)
    command = [sys.executable, "-c", KILLED, str(workspace.root), str(tmp_path / "out"), to]
    assert subprocess.run([*command, "3"], check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    again = subprocess.run([*command, "0"], check=False, capture_output=True, text=True)
    assert again.stdout == "completed\n"
    assert not files.manifest_faults(tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"workspace", "out"}


def test_importing_exports_loads_nothing_heavy() -> None:
    code = "import studio.exports.export, sys; print({'torch', 'pyarrow', 'numpy', 'datasets'} & sys.modules.keys())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
