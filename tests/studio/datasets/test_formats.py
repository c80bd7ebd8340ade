import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from studio.datasets.dataset import Picture, open_dataset
from studio.datasets.importer import scan
from studio.errors import UsageError
from studio.events import Refused, Warned
from studio.settings import ImportSettings
from studio.workspace import Workspace
from tests.studio.datasets.imports import fill, metadata, picture, run_import

PICTURE_TYPE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def imported(workspace: Workspace, source: Path | str, **settings: Any) -> dict[str, Picture]:
    """Pictures by the name they had at their source."""
    finished, _ = run_import(workspace, source, **settings)
    assert finished.outcome == "completed", finished
    assert finished.result["given"] == finished.result["imported"] + finished.result["refused"]
    return {one.source: one for one in open_dataset(workspace, "set").pictures()}


def look(source: Path | str, **settings: Any) -> Any:
    return scan(ImportSettings(source=str(source), name="set", **settings))


def write_parquet(path: Path, columns: dict[str, pa.Array], features: dict[str, Any] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if features:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path, row_group_size=3)


def rsicd(root: Path) -> Path:
    """RSICD's layout: two splits, five sentences each, the class in the name, and a JSON file beside."""
    for split, names in {"train": ["airport_1", "storage_tanks_2", "00001", "beach_4"], "valid": ["beach_1"]}.items():
        files = [f"rsicd_images/{name}.jpg" for name in names]
        pictures = [{"bytes": picture(hash(name) % 999, form="JPEG"), "path": name} for name in names]
        sentences = [[f"sentence {number} of {name} ." for number in range(5)] for name in names]
        columns = {
            "filename": pa.array(files),
            "captions": pa.array(sentences),
            "image": pa.array(pictures, PICTURE_TYPE),
        }
        write_parquet(root / "data" / f"{split}-00000-of-00001.parquet", columns)
    return fill(root, {"dataset_rsicd.json": "{}"})


def test_class_folders_give_their_names_as_labels(workspace: Workspace, tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {"River/1.png": picture(1), "AnnualCrop/2.png": picture(2)})
    found = imported(workspace, source, caption="a satellite image of {class}")
    assert {name: one.label for name, one in found.items()} == {
        "River/1.png": "River",
        "AnnualCrop/2.png": "AnnualCrop",
    }
    assert found["AnnualCrop/2.png"].captions == ("a satellite image of annual crop",)
    assert found["AnnualCrop/2.png"].file_name == "images/annualcrop_2.png"


def test_folders_around_the_classes_and_split_folders_are_no_classes(workspace: Workspace, tmp_path: Path) -> None:
    files = {f"AID/{split}/Port/{split}.png": picture(seed) for seed, split in enumerate(("train", "val"))}
    found = imported(workspace, fill(tmp_path / "in", files))
    assert {(one.label, one.split) for one in found.values()} == {("Port", "train"), ("Port", "val")}


def test_one_folder_of_pictures_is_a_class_but_images_is_none(tmp_path: Path) -> None:
    assert look(fill(tmp_path / "a", {"Mountain/1.png": picture()})).classes == ("Mountain",)
    assert look(fill(tmp_path / "b", {"images/1.png": picture()})).format == "folder"


def test_only_the_chosen_classes_are_given(workspace: Workspace, tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {f"{name}/1.png": picture() for name in ("Port", "Pond", "Park")})
    assert {one.label for one in imported(workspace, source, classes=("pond", "Park")).values()} == {"Pond", "Park"}
    with pytest.raises(UsageError, match="Did you mean Pond"):
        look(source, classes=("pnd",))


def test_metadata_rows_carry_captions_labels_splits_and_more(workspace: Workspace, tmp_path: Path) -> None:
    rows = [
        {"file_name": "a.png", "text": "a river", "label": "river", "gsd": 10.0},
        {"file_name": "sub/b.png", "captions": ["one", " ", "two", "two"], "split": "test"},
        {"file_name": "a.png", "text": "a second sentence"},
    ]
    files = {"metadata.jsonl": metadata(rows), "a.png": picture(1), "sub/b.png": picture(2)}
    found = imported(workspace, fill(tmp_path / "in", files))
    assert found["a.png"].captions == ("a river", "a second sentence")
    assert (found["a.png"].label, found["a.png"].extra) == ("river", {"gsd": 10.0})
    assert (found["sub/b.png"].captions, found["sub/b.png"].split) == (("one", "two", "two"), "test")


def test_metadata_in_split_folders_is_relative_to_itself(workspace: Workspace, tmp_path: Path) -> None:
    files = {"metadata.jsonl": metadata([{"file_name": "1.png", "text": "x"}]), "1.png": picture()}
    source = tmp_path / "in"
    for split in ("train", "validation"):
        fill(source / split, files)
    assert {one.split for one in imported(workspace, source).values()} == {"train", "validation"}


def test_metadata_that_names_only_missing_files_is_one_clear_sentence(tmp_path: Path) -> None:
    rows = [{"file_name": "gone.png", "text": "x"}]
    with pytest.raises(UsageError, match=r"No row of .* names a picture that is there"):
        look(fill(tmp_path / "in", {"metadata.jsonl": metadata(rows), "other.png": picture()}))


def test_metadata_leads_to_no_file_outside(workspace: Workspace, tmp_path: Path) -> None:
    fill(tmp_path, {"secret.png": picture()})
    names = ["good.png", "../secret.png", str(tmp_path / "secret.png"), "a\0.png", "", 7]
    source = fill(tmp_path / "in", {"metadata.jsonl": metadata({"file_name": name} for name in names) + "[]\n{"})
    fill(source, {"good.png": picture()})
    finished, events = run_import(workspace, source)
    assert finished.result == {"name": "set", "given": 8, "imported": 1, "refused": 7}
    reasons = [event.reason for event in events if isinstance(event, Refused)]
    assert reasons.count("leads out of the folder") == 3
    assert reasons.count("names no picture: file_name is missing") == 2
    assert reasons.count("is not a JSON object") == 2


def test_pictures_without_a_row_come_without_a_caption_and_are_told_of(workspace: Workspace, tmp_path: Path) -> None:
    rows = [{"file_name": "a.png", "text": "x"}]
    source = fill(tmp_path / "in", {"metadata.jsonl": metadata(rows), "a.png": picture(1), "b.png": picture(2)})
    assert imported(workspace, source)["b.png"].captions == ()
    assert look(source).notes == ("1 picture has no row in metadata.jsonl, so no caption comes with it.",)


def test_rsicd_keeps_five_sentences_splits_and_classes(workspace: Workspace, tmp_path: Path) -> None:
    source = rsicd(tmp_path / "rsicd")
    found = imported(workspace, source)
    labels = {name.removeprefix("rsicd_images/"): one.label for name, one in found.items()}
    assert labels == {
        "airport_1.jpg": "airport",
        "storage_tanks_2.jpg": "storage_tanks",
        "00001.jpg": "",
        "beach_4.jpg": "beach",
        "beach_1.jpg": "beach",
    }
    assert found["rsicd_images/beach_1.jpg"].split == "valid"
    assert [len(one.captions) for one in found.values()] == [5] * 5
    assert found["rsicd_images/airport_1.jpg"].file_name == "images/airport_1.jpg"


def test_the_form_with_pictures_wins_and_the_other_is_named(workspace: Workspace, tmp_path: Path) -> None:
    _, events = run_import(workspace, rsicd(tmp_path / "rsicd"))
    assert any(isinstance(event, Warned) and "dataset_rsicd.json" in event.message for event in events)


def test_class_names_behind_numbers_come_from_the_hubs_metadata(workspace: Workspace, tmp_path: Path) -> None:
    columns = {
        "image": pa.array([{"bytes": picture(number), "path": None} for number in range(5)], PICTURE_TYPE),
        "label": pa.array([0, 1, None, 1, -1]),
        "text": pa.array(["a", "b", "c", "", None]),
        "taken": pa.array([1, 2, 3, 4, 5], pa.timestamp("s")),
    }
    names = {"label": {"names": ["Forest", "Sea/Lake"], "_type": "ClassLabel"}}
    write_parquet(tmp_path / "in" / "test.parquet", columns, names)
    found = imported(workspace, tmp_path / "in" / "test.parquet")
    assert [one.label for one in found.values()] == ["Forest", "Sea/Lake", "", "Sea/Lake", ""]
    assert [one.captions for one in found.values()] == [("a",), ("b",), ("c",), (), ()]
    assert {one.split for one in found.values()} == {"test"}
    assert next(iter(found.values())).extra == {"taken": "1970-01-01 00:00:01"}


def test_rows_without_pictures_and_broken_files_are_each_refused(workspace: Workspace, tmp_path: Path) -> None:
    rows = [
        {"bytes": picture(), "path": "a.png"},
        {"bytes": None, "path": "b.png"},
        None,
        {"bytes": b"no", "path": "d"},
    ]
    write_parquet(tmp_path / "in" / "train.parquet", {"image": pa.array(rows, PICTURE_TYPE)})
    fill(tmp_path / "in", {"broken.parquet": b"PAR1 and no more"})
    finished, events = run_import(workspace, tmp_path / "in")
    assert finished.result == {"name": "set", "given": 5, "imported": 1, "refused": 4}
    files = [event.file for event in events if isinstance(event, Refused)]
    assert files == ["b.png", "train.parquet, row 3", "d", "broken.parquet"]


def test_damage_inside_a_parquet_file_costs_only_its_row_groups(workspace: Workspace, tmp_path: Path) -> None:
    path = tmp_path / "in" / "train.parquet"
    rows = [{"bytes": picture(number, 64), "path": f"{number}.png"} for number in range(9)]
    write_parquet(path, {"image": pa.array(rows, PICTURE_TYPE)})
    data = bytearray(path.read_bytes())
    place = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data[place : place + 12] = b"\xff" * 12
    path.write_bytes(data)
    finished, _ = run_import(workspace, path)
    assert finished.result == {"name": "set", "given": 9, "imported": 6, "refused": 3}


@pytest.mark.parametrize("content", [{}, {"notes.txt": "x"}, {"table.parquet": b"not one"}, {"a.jpg": "text"}])
def test_a_source_with_nothing_importable_is_one_clear_sentence(
    tmp_path: Path, content: dict[str, bytes | str]
) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(UsageError):
        look(fill(tmp_path / "in", content))


def test_sources_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    source = fill(tmp_path / "in", {"a.png": picture()})
    with pytest.raises(UsageError, match="no file or folder"):
        look(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="Did you mean folder"):
        look(source, format="folders")
    with pytest.raises(UsageError, match="in the form parquet"):
        look(source, format="parquet")
    with pytest.raises(UsageError, match=r"holds \{place\}"):
        look(source, caption="an image of {place}")
    with pytest.raises(UsageError, match="cannot be held out"):
        look(source, hold_out=1)
    with pytest.raises(UsageError, match="no picture files to link"):
        look("demo:7", link=True)


def test_the_demo_set_has_seven_classes_captions_and_a_split_to_measure_on(workspace: Workspace) -> None:
    found = imported(workspace, "demo:84")
    dataset = open_dataset(workspace, "set")
    assert len(dataset.classes) == 7
    assert dataset.splits == {"train": 70, "valid": 14}
    assert {len(one.captions) for one in found.values()} == {3}
    assert len({one.sha256 for one in found.values()}) == 84


def test_real_rsicd_is_seen_whole(shared_data: Path) -> None:
    found = look(shared_data / "rsicd", hold_out=500)
    assert (found.items, found.splits, len(found.classes)) == (8973, {"train": 7946, "valid": 1027}, 30)
    assert "dataset_rsicd.json" in found.notes[0]


@pytest.mark.parametrize(("folder", "count", "classes"), [("aid_sample", 300, 30), ("eurosat_sample", 30, 10)])
def test_real_class_folders_import(
    workspace: Workspace, shared_data: Path, folder: str, count: int, classes: int
) -> None:
    assert len(imported(workspace, shared_data / folder)) == count
    assert len(open_dataset(workspace, "set").classes) == classes
