from pathlib import Path

import pytest

from studio import files
from studio.catalog import Catalog
from studio.checks import Problem, check
from studio.events import Finished, ImageSaved, Started, to_record
from studio.journal import Journal
from studio.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path)
    (tmp_path / "studio.toml").write_text("schema = 1\n")
    _dataset(workspace)
    _batch(workspace)
    _run(workspace)
    catalog = Catalog(workspace)
    catalog.rate("batches/ice/tiles/000001.png", 4)
    catalog.set_favourite("batches/ice/tiles/000001.png")
    (workspace.prompts).mkdir()
    (workspace.prompts / "book.toml").write_text("title = 'x'\n")
    return workspace


def _dataset(workspace: Workspace) -> None:
    folder = workspace.datasets / "set"
    files.write_bytes(folder / "images" / "a.png", b"picture")
    files.write_text(folder / "captions.jsonl", '{"file_name": "images/a.png", "captions": ["a river"]}\n')
    files.write_text(folder / "dataset.toml", "schema = 1\n")
    files.write_manifest(folder, exclude=("events.jsonl",))


def _batch(workspace: Workspace) -> None:
    folder = workspace.batches / "ice"
    files.write_bytes(folder / "tiles" / "000001.png", b"tile")
    sha256 = files.sha256_of(folder / "tiles" / "000001.png")
    events = (Started("generate", "cpu"), ImageSaved(1, "tiles/000001.png", 7, sha256, "ice"), Finished("completed"))
    for event in events:
        files.append_record(folder / "events.jsonl", to_record(event))
    files.write_manifest(folder, exclude=("events.jsonl",))


def _run(workspace: Workspace) -> None:
    with files.whole_folder(workspace.runs / "0001-lora" / "checkpoints" / "step-000010") as folder:
        files.write_bytes(folder / "weights.safetensors", b"weights")


def names(workspace: Workspace, problems: list[Problem]) -> list[tuple[str, str]]:
    return [(problem.path.relative_to(workspace.root).as_posix(), problem.kind) for problem in problems]


def test_a_whole_workspace_has_no_problem_even_without_a_catalog(workspace: Workspace) -> None:
    assert check(workspace, deep=True) == []
    workspace.catalog_path.unlink()
    assert check(workspace, deep=True) == []
    assert workspace.catalog_path.is_file()
    assert Catalog(workspace).ratings() == {"batches/ice/tiles/000001.png": 4}


@pytest.mark.parametrize(
    "name",
    ["datasets/set/images/a.png", "datasets/set/captions.jsonl", "datasets/set/dataset.toml",
     "batches/ice/tiles/000001.png",
     "runs/0001-lora/checkpoints/step-000010/weights.safetensors"],
)  # fmt: skip
def test_one_flipped_byte_is_found_by_a_deep_look_and_a_missing_file_by_any(workspace: Workspace, name: str) -> None:
    path = workspace.root / name
    data = path.read_bytes()
    path.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
    assert names(workspace, check(workspace, deep=True)) == [(name, "changed")]
    path.write_bytes(data[:-1])
    assert (name, "changed") in names(workspace, check(workspace)) or name.startswith("batches")
    path.unlink()
    if not name.endswith("dataset.toml"):  # without it the import counts as unfinished
        assert names(workspace, check(workspace)) == [(name, "missing")]


def test_damaged_manifests_settings_and_records_are_named(workspace: Workspace) -> None:
    (workspace.datasets / "set" / "manifest.json").write_text('{"files": {"captions.jsonl": 1}}')
    (workspace.batches / "ice" / "manifest.json").write_text("{")
    (workspace.prompts / "book.toml").write_text("title = ")
    with (workspace.root / "ratings.jsonl").open("a") as ratings:
        ratings.write("{torn\n")
    assert names(workspace, check(workspace)) == [
        ("prompts/book.toml", "not readable as TOML"),
        ("ratings.jsonl", "1 damaged line"),
        ("datasets/set/manifest.json", "no manifest"),
        ("batches/ice/manifest.json", "no manifest"),
    ]


def test_a_broken_catalog_is_told_of_and_mended(workspace: Workspace) -> None:
    workspace.catalog_path.write_bytes(b"no database at all")
    (problem,) = check(workspace)
    assert (problem.path, problem.repaired) == (workspace.catalog_path, True)
    assert check(workspace) == []


def test_a_tile_that_no_record_knows_is_told_of_once_the_batch_is_done(workspace: Workspace) -> None:
    files.write_bytes(workspace.batches / "ice" / "tiles" / "000002.png", b"stray")
    assert names(workspace, check(workspace)) == [("batches/ice/tiles/000002.png", "orphan")]


def test_unfinished_work_is_no_problem(workspace: Workspace) -> None:
    folder = workspace.datasets / "half"
    files.write_bytes(folder / "images" / "a.png", b"picture")
    files.write_text(folder / ".tmp-progress.jsonl", "{}\n")
    files.append_record(folder / "events.jsonl", to_record(Started("import", "cpu")))
    assert check(workspace, deep=True) == []
    assert (folder / ".tmp-progress.jsonl").exists()
    files.write_manifest(folder)
    (folder / "images" / "a.png").unlink()
    assert check(workspace) == []


def test_leftovers_of_killed_processes_are_removed_where_nobody_works(workspace: Workspace) -> None:
    left = workspace.runs / "0001-lora" / "checkpoints" / ".tmp-99-step-000020"
    files.write_bytes(left / "weights.safetensors", b"half")
    journal = Journal(workspace.runs / "0001-lora" / "events.jsonl")
    assert check(workspace) == []
    assert left.exists()
    journal.close()
    assert check(workspace) == []
    assert not left.exists()
