"""What is exported is read back with the library that its users have."""

import io
import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from studio import images
from studio.exports import parquet
from studio.workspace import Workspace
from tests.hostile import PAYLOADS
from tests.studio.exports.conftest import CLASSES, make_batch, pixels


@pytest.fixture
def loaded(tmp_path: Path) -> Any:
    """load_dataset, with a cache of its own."""

    def load(*arguments: Any, **options: Any) -> Any:
        return datasets.load_dataset(*arguments, **options, cache_dir=str(tmp_path / "cache"))

    return load


def test_an_image_folder_is_read_by_datasets(
    workspace: Workspace, tmp_path: Path, run_export: Any, loaded: Any
) -> None:
    prompts = ["islands in turquoise water", "a rocky desert canyon", "ice floes"]
    make_batch(workspace, "lulc", prompts, CLASSES)
    assert run_export("lulc", "image-folder", tmp_path / "out")[0].outcome == "completed"
    for data in (loaded("imagefolder", data_dir=str(tmp_path / "out")), loaded(str(tmp_path / "out"))):
        assert list(data) == ["train"]
        assert data["train"]["text"] == prompts
        assert data["train"]["label"] == list(CLASSES)
        assert isinstance(data["train"].features["image"], datasets.Image)
        for index, row in enumerate(data["train"], start=1):
            assert np.array_equal(np.asarray(row["image"]), pixels(index))
            assert json.loads(row["recipe"])["seed"] == 40 + index


def test_tiles_in_an_image_folder_keep_their_recipes(workspace: Workspace, tmp_path: Path, run_export: Any) -> None:
    folder = make_batch(workspace, "lulc", ["ice floes"])
    run_export("lulc", "image-folder", tmp_path / "out")
    exported = tmp_path / "out" / "images" / "000001.png"
    assert exported.read_bytes() == (folder / "tiles" / "000001.png").read_bytes()
    assert images.read_recipe(exported)["prompt"] == "ice floes"


def test_a_parquet_is_read_by_datasets(workspace: Workspace, tmp_path: Path, run_export: Any, loaded: Any) -> None:
    prompts = [f"prompt {index}" for index in range(150)]
    make_batch(workspace, "lulc", prompts, [CLASSES[index % 3] for index in range(149)] + [""], size_px=16)
    assert run_export("lulc", "parquet", tmp_path / "out")[0].outcome == "completed"
    shards = [str(path) for path in sorted((tmp_path / "out" / "data").iterdir())]
    assert [Path(path).name for path in shards] == ["train-00000-of-00001.parquet"]
    for data in (
        loaded("parquet", data_files=shards)["train"],
        loaded("parquet", data_dir=str(tmp_path / "out"))["train"],
        loaded(str(tmp_path / "out"))["train"],
    ):
        assert data["text"] == prompts
        assert isinstance(data.features["image"], datasets.Image)
        assert data.features["label"] == datasets.ClassLabel(names=sorted(CLASSES))
        names = [data.features["label"].int2str(number) for number in data["label"][:149]]
        assert names == [CLASSES[index % 3] for index in range(149)]
        assert data["label"][149] is None
        assert data["captions"][7] == ["prompt 7"]
        assert np.array_equal(np.asarray(data[7]["image"]), pixels(8, 16))
        assert json.loads(data[7]["recipe"])["seed"] == 48


def test_pictures_in_a_parquet_keep_their_recipes(workspace: Workspace, tmp_path: Path, run_export: Any) -> None:
    make_batch(workspace, "lulc", ["ice floes"])
    run_export("lulc", "parquet", tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "data" / "train-00000-of-00001.parquet")
    picture = table["image"][0].as_py()
    assert picture["path"] == "000001.png"
    with Image.open(io.BytesIO(picture["bytes"])) as image:
        assert json.loads(image.info["rs-studio"])["prompt"] == "ice floes"


def test_a_parquet_without_classes_is_read(workspace: Workspace, tmp_path: Path, run_export: Any, loaded: Any) -> None:
    make_batch(workspace, "river", ["a river", "a delta"])
    run_export("river", "parquet", tmp_path / "out")
    data = loaded(str(tmp_path / "out"))["train"]
    assert data["text"] == ["a river", "a delta"]
    assert data["label"] == ["", ""]


def test_a_large_parquet_is_cut_into_files(
    workspace: Workspace, tmp_path: Path, run_export: Any, loaded: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "SHARD_BYTES", 20_000)
    monkeypatch.setattr(parquet, "WAITING_BYTES", 10_000)
    prompts = [f"prompt {index}" for index in range(20)]
    make_batch(workspace, "lulc", prompts, size_px=32)
    run_export("lulc", "parquet", tmp_path / "out")
    count = len(list((tmp_path / "out" / "data").iterdir()))
    assert count > 2
    assert (tmp_path / "out" / "data" / f"train-00001-of-{count:05d}.parquet").is_file()
    assert loaded(str(tmp_path / "out"))["train"]["text"] == prompts


@pytest.mark.parametrize("to", ["image-folder", "parquet"])
def test_hostile_captions_arrive_as_they_were(
    workspace: Workspace, tmp_path: Path, run_export: Any, loaded: Any, to: str
) -> None:
    labels = [payload or "none" for payload in PAYLOADS]
    make_batch(workspace, "hostile", PAYLOADS, labels, size_px=8)
    assert run_export("hostile", to, tmp_path / "out")[0].outcome == "completed"
    data = loaded(str(tmp_path / "out"))["train"]
    assert data["text"] == [payload.encode("utf-8", "backslashreplace").decode() for payload in PAYLOADS]
    assert not [path for path in tmp_path.iterdir() if path.name not in ("out", "cache", "workspace")]


def test_the_card_of_hostile_classes_is_one_header_and_plain_text(
    workspace: Workspace, tmp_path: Path, run_export: Any
) -> None:
    yaml = pytest.importorskip("yaml")
    make_batch(workspace, "hostile", PAYLOADS, [payload or "none" for payload in PAYLOADS], size_px=8)
    run_export("hostile", "image-folder", tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    header, body = card.removeprefix("---\n").split("\n---\n", 1)
    assert set(yaml.safe_load(header)) == {"pretty_name", "tags", "task_categories", "configs"}
    assert "<" not in body
    assert "](" not in body
    assert "\x1b" not in body
    assert body.count("```") == 2
