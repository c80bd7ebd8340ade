import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from studio import collections, files
from studio.errors import SettingsError, UsageError
from studio.exports.items import collect
from studio.workspace import Workspace
from tests.studio.exports.conftest import make_batch, pixels

SPLITS = ("train", "train", "valid", "held-out", "test")


@pytest.fixture
def rivers(workspace: Workspace) -> Path:
    """A data set of five pictures in four splits, in two formats, two captions each."""
    folder = workspace.datasets / "rivers"
    rows = []
    for number, split in enumerate(SPLITS):
        name = f"images/test-river_{number}.{'png' if number % 2 else 'jpg'}"
        (folder / "images").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(number, 32)).save(folder / name)
        rows.append(
            {"file_name": name, "captions": [f"river {number}", f"a wide river {number}"], "split": split}
            | {"label": ("lake", "river")[number % 2], "sha256": "0", "width_px": 32, "height_px": 32, "source": name}
        )
    files.write_text(folder / "captions.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    splits = "".join(
        f'[splits.{split}]\npictures = {SPLITS.count(split)}\nsha256 = "0"\n' for split in dict.fromkeys(SPLITS)
    )
    files.write_text(folder / "dataset.toml", 'classes = ["river", "lake"]\n' + splits)
    return folder


@pytest.mark.parametrize("to", ["image-folder", "parquet"])
def test_every_split_and_caption_of_a_data_set_is_read_back(
    rivers: Path, tmp_path: Path, run_export: Any, to: str
) -> None:
    assert run_export("rivers", to, tmp_path / "out")[0].result["pictures"] == 5
    data = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(split) for name, split in data.items()} == {"train": 2, "valid": 1, "held_out": 1, "test": 1}
    assert data["held_out"][0]["captions"] == ["river 3", "a wide river 3"]
    assert data["held_out"][0]["source"] == "datasets/rivers/images/test-river_3.png"
    assert np.array_equal(np.asarray(data["held_out"][0]["image"]), pixels(3, 32))
    if to == "parquet":
        assert data["train"].features["label"].names == ["river", "lake"]
        assert data["train"]["label"] == [1, 0]
    else:
        assert data["train"]["label"] == ["lake", "river"]


def test_an_image_folder_of_splits_is_read_without_its_card(rivers: Path, tmp_path: Path, run_export: Any) -> None:
    run_export("rivers", "image-folder", tmp_path / "out")
    data = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert {name: len(split) for name, split in data.items()} == {"train": 2, "validation": 1, "test": 1}


def test_pictures_of_a_data_set_leave_as_they_are(rivers: Path, tmp_path: Path, run_export: Any) -> None:
    run_export("rivers", "image-folder", tmp_path / "out")
    first = tmp_path / "out" / "train" / "images" / "000001.jpg"
    assert first.read_bytes() == (rivers / "images" / "test-river_0.jpg").read_bytes()


def test_a_data_set_has_a_gallery_and_a_contact_sheet(rivers: Path, tmp_path: Path, run_export: Any) -> None:
    assert run_export("rivers", "gallery", tmp_path / "out")[0].result["pictures"] == 5
    assert run_export("rivers", "contact-sheet", tmp_path / "sheet.png")[0].result["pictures"] == 5
    assert "a wide river 3" in (tmp_path / "out" / "index.html").read_text()


def test_an_unfinished_data_set_is_refused(rivers: Path, tmp_path: Path, run_export: Any) -> None:
    (rivers / "dataset.toml").unlink()
    finished, _ = run_export("rivers", "parquet", tmp_path / "out")
    assert finished.exit_code == 2
    assert "unfinished" in finished.message


def test_a_collection_takes_tiles_and_pictures(rivers: Path, workspace: Workspace) -> None:
    tiles = make_batch(workspace, "lulc", ["a lake"]) / "tiles"
    collections.add(workspace, "both", [tiles / "000001.png", rivers / "images" / "test-river_1.png"])
    assert [item.source for item in collect(workspace, "both").items] == [
        "batches/lulc/tiles/000001.png",
        "datasets/rivers/images/test-river_1.png",
    ]


def test_a_collection_takes_nothing_from_outside(rivers: Path, workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "outside.png").touch()
    with pytest.raises(UsageError, match="outside the workspace"):
        collections.add(workspace, "both", [tmp_path / "outside.png"])
    with pytest.raises(UsageError, match="already the name"):
        collections.add(workspace, "rivers", [rivers / "images" / "test-river_1.png"])
    folder = workspace.collections / "bad"
    folder.mkdir(parents=True)
    (folder / "collection.toml").write_text('[[tiles]]\nfile = "../outside.png"\n[[tiles]]\nfile = "/etc/passwd"\n')
    with pytest.raises(SettingsError) as refusal:
        collect(workspace, "bad")
    assert [path for path, _ in refusal.value.faults] == ["tiles.0.file", "tiles.1.file"]
