from pathlib import Path, PurePath

import pytest

from studio.datasets import captions, rsicd, splits
from studio.datasets.dataset import open_dataset
from studio.datasets.statistics import colours, statistics
from studio.errors import UsageError
from studio.workspace import Workspace
from tests.studio.datasets.imports import fill, metadata, picture, run_import


@pytest.mark.parametrize(
    ("label", "words"),
    [("BareLand", "bare land"), ("bare_land", "bare land"), ("bareland", "bare land"),
     ("storagetanks", "storage tanks"),
     ("SeaLake", "sea lake"), ("crop-land", "crop land"), ("River", "river")],
)  # fmt: skip
def test_classes_are_written_as_people_do(label: str, words: str) -> None:
    assert captions.readable_class(label) == words


def test_a_template_without_its_class_gives_no_caption() -> None:
    assert captions.from_template("a satellite image of {class}", "") == ()
    assert captions.from_template("a satellite image", "") == ("a satellite image",)
    assert captions.from_template("", "River") == ()


@pytest.mark.parametrize("template", ["{name}", "a {class} at {place}", "a { b", "}"])
def test_a_template_with_anything_else_in_braces_is_refused(template: str) -> None:
    with pytest.raises(UsageError, match="not known"):
        captions.check_template(template)


@pytest.mark.parametrize(
    ("name", "label"),
    [("rsicd_images/baseballfield_12.jpg", "baseballfield"), ("a_b_3.jpg", "a_b"), ("00001.jpg", ""), ("7_8.jpg", "")],
)
def test_the_class_of_rsicd_lies_in_front_of_the_last_underscore(name: str, label: str) -> None:
    assert rsicd.label_of_name(name) == label


@pytest.mark.parametrize(
    ("name", "split"),
    [("train-00000-of-00001.parquet", "train"), ("valid.parquet", "valid"), ("held-out.parquet", "held-out"),
     ("trains.parquet", ""), ("part-0.parquet", ""), ("test_1.parquet", "test")],
)  # fmt: skip
def test_a_split_is_read_from_a_file_name(name: str, split: str) -> None:
    assert splits.split_of_name(name) == split


def test_a_split_is_read_from_folders_but_not_from_the_files_own_name() -> None:
    assert splits.split_of_folders(PurePath("a/Valid/b/test")) == "valid"
    assert splits.split_of_value("../up") == "up"
    assert splits.split_of_value(None) == ""


def test_what_is_held_out_depends_on_no_order_and_keeps_duplicates_together() -> None:
    pictures = [(f"{number}.png", f"{number // 2:064x}") for number in range(100)]
    chosen = splits.chosen_to_hold_out(pictures, 20, 42)
    assert chosen == splits.chosen_to_hold_out(reversed(pictures), 20, 42)
    assert len(chosen) == 20
    assert {f"{int(name[:-4]) ^ 1}.png" for name in chosen} == chosen
    assert splits.sum_of_split(pictures) == splits.sum_of_split(reversed(pictures))


def test_statistics_count_what_spoils_a_training(workspace: Workspace, tmp_path: Path) -> None:
    rows = [
        {"file_name": "a.png", "text": ["a port on the left", "a port on the left"], "label": "port"},
        {"file_name": "b.png", "text": ["a port on the left", "Köln"], "label": "port"},
        {"file_name": "c.png", "text": ""},
    ]
    source = fill(tmp_path / "in", {"metadata.jsonl": metadata(rows), "a.png": picture(1), "b.png": picture(1)})
    fill(source, {"c.png": picture(2)})
    run_import(workspace, source)
    dataset = open_dataset(workspace, "set")
    found = statistics(dataset.pictures())
    assert (found.pictures, found.captions, found.distinct_captions, found.without_caption) == (3, 4, 2, 1)
    assert (found.repeating_one_caption, found.with_directions, found.not_ascii, found.duplicates) == (1, 3, 1, 1)
    assert (found.most_repeated, found.classes, found.sizes) == (("a port on the left", 2), {"port": 2}, {(24, 24): 3})
    mean, deviation = colours(dataset, dataset.pictures())
    assert all(0 < value < 1 for value in (*mean, *deviation))
    assert statistics([]).words_per_caption == 0
