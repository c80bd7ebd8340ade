import os
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from studio import catalog, files
from studio.catalog import Catalog
from studio.errors import StudioError, UsageError
from studio.events import ImageSaved, MetricMeasured, to_record
from studio.migrations import MIGRATIONS
from studio.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "studio.toml").write_text("schema = 1\n")
    return Workspace(tmp_path)


def add_dataset(workspace: Workspace, name: str, captions: dict[str, list[str]], label: str = "") -> None:
    folder = workspace.datasets / name
    for file_name, texts in captions.items():
        row = {"file_name": file_name, "captions": texts, "label": label, "split": "train"}
        folder.mkdir(parents=True, exist_ok=True)
        files.append_record(folder / "captions.jsonl", row)
    files.write_text(folder / "dataset.toml", "schema = 1\n")


def add_batch(workspace: Workspace, name: str, prompts: list[str], label: str = "") -> None:
    folder = workspace.batches / name
    folder.mkdir(parents=True)
    for index, prompt in enumerate(prompts, 1):
        plan = {"index": index, "prompt": prompt, "negative": "blurry", "seed": index, "label": label}
        files.append_record(folder / "plan.jsonl", plan)
        saved = ImageSaved(index, f"tiles/{index:06d}.png", index, "0" * 64, prompt)
        files.append_record(folder / "events.jsonl", to_record(saved))


def test_captions_are_found_by_their_words_best_first(workspace: Workspace) -> None:
    add_dataset(
        workspace, "rivers", {"a.png": ["a wide river between green fields", "some trees"], "b.png": ["rivers"]}
    )
    add_dataset(workspace, "ports", {"c.png": ["boats in a port near a river"]}, "port")
    hits = Catalog(workspace).search_captions("river fields")
    assert hits[0].caption == "a wide river between green fields"
    assert {hit.caption for hit in hits} == {
        "a wide river between green fields",
        "rivers",
        "boats in a port near a river",
    }
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert (hits[0].dataset, hits[0].file_name, hits[0].split) == ("rivers", "a.png", "train")
    assert [hit.dataset for hit in Catalog(workspace).search_captions("river", label="port")] == ["ports"]
    assert Catalog(workspace).search_captions("", label="port")[0].file_name == "c.png"


def test_a_sentence_under_many_pictures_is_one_hit(workspace: Workspace) -> None:
    add_dataset(
        workspace, "set", {f"{number}.png": ["many buildings"] for number in range(20)} | {"x.png": ["a building"]}
    )
    assert len(Catalog(workspace).search_captions("building", limit=5)) == 2


@pytest.mark.parametrize(
    "text", ['"', "NEAR(", "a AND", "* OR -x", "text:river", "\x00", "\ud800", "'; DROP TABLE tiles"]
)
def test_no_text_is_taken_for_a_query_language(workspace: Workspace, text: str) -> None:
    add_dataset(workspace, "set", {"a.png": ["half \ud800 a character", "a river"]})
    Catalog(workspace).search_captions(text)
    Catalog(workspace).tiles(text=text, label=text)


def test_what_changes_or_goes_is_seen_at_the_next_question(workspace: Workspace) -> None:
    catalog = Catalog(workspace)
    assert catalog.search_captions("river") == []
    add_dataset(workspace, "set", {"a.png": ["a river"]})
    assert len(catalog.search_captions("river")) == 1
    (workspace.datasets / "set" / "dataset.toml").unlink()
    assert catalog.search_captions("river") == []


def test_tiles_are_filtered_by_everything_known_of_them(workspace: Workspace) -> None:
    catalog = Catalog(workspace)
    add_batch(workspace, "river-01", ["a wide river", "a dry river 100%"], "river")
    add_batch(workspace, "ice", ["ice floes"], "snow-ice")
    catalog.set_favourite("batches/ice/tiles/000001.png")
    catalog.rate("batches/river-01/tiles/000002.png", 4)
    assert [tile.path for tile in catalog.tiles()] == [
        "batches/ice/tiles/000001.png",
        "batches/river-01/tiles/000001.png",
        "batches/river-01/tiles/000002.png",
    ]
    assert [tile.number for tile in catalog.tiles(batch="river-01")] == [1, 2]
    assert [tile.prompt for tile in catalog.tiles(text="RIVER dry")] == ["a dry river 100%"]
    assert [tile.prompt for tile in catalog.tiles(text="%")] == ["a dry river 100%"]
    assert [tile.batch for tile in catalog.tiles(favourites=True)] == ["ice"]
    assert [(tile.rating, tile.label, tile.negative) for tile in catalog.tiles(min_rating=3)] == [
        (4, "river", "blurry")
    ]
    assert [tile.number for tile in catalog.tiles(limit=1, offset=2)] == [2]


def test_deleting_the_catalog_loses_no_rating_and_no_favourite(workspace: Workspace) -> None:
    catalog = Catalog(workspace)
    add_batch(workspace, "ice", ["one", "two"])
    one, two = (tile.path for tile in catalog.tiles())
    catalog.set_favourite(one)
    catalog.set_favourite(two)
    catalog.set_favourite(one, False)
    catalog.rate(one, 5)
    catalog.rate(one, 2)
    catalog.rate(two, 3)
    catalog.rate(two, 0)
    before = catalog.tiles(), catalog.favourites(), catalog.ratings()
    workspace.catalog_path.unlink()
    assert (catalog.tiles(), catalog.favourites(), catalog.ratings()) == before
    assert before[1:] == ([two], {one: 2})
    with pytest.raises(UsageError, match="6 is no rating"):
        catalog.rate(one, 6)


def test_figures_are_listed_with_the_folder_they_come_from(workspace: Workspace) -> None:
    figure = MetricMeasured("kid", 0.1, 50, 50, "starter-encoder", "a" * 64, "b" * 64, 0.01, None, "x")
    folder = workspace.evaluations / "0001-ice"
    folder.mkdir(parents=True)
    files.append_record(folder / "events.jsonl", to_record(figure))
    assert Catalog(workspace).measures() == [("evaluations/0001-ice", figure)]


@pytest.mark.parametrize("damage", ["text", "truncated", "flipped"])
def test_a_broken_catalog_is_made_again(workspace: Workspace, damage: str) -> None:
    catalog = Catalog(workspace)
    add_dataset(workspace, "set", {"a.png": ["a river"]})
    catalog.refresh()
    data = bytearray(workspace.catalog_path.read_bytes())
    if damage == "flipped":
        data[4096 : len(data)] = bytes(255 - one for one in data[4096:])
    workspace.catalog_path.write_bytes({"text": b"no database", "truncated": data[:5000], "flipped": data}[damage])
    assert catalog.faults()
    assert len(catalog.search_captions("river")) == 1
    assert catalog.faults() == []


def test_a_journal_of_a_killed_process_is_not_played_into_a_new_catalog(workspace: Workspace) -> None:
    journal = workspace.root / "catalog.db-journal"
    journal.write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(600))
    Catalog(workspace).rebuild()
    assert not journal.exists()


def test_a_newer_catalog_is_left_alone(workspace: Workspace) -> None:
    with closing(sqlite3.connect(workspace.catalog_path)) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(StudioError, match="newer rs-studio"):
        Catalog(workspace).refresh()


def test_many_may_ask_at_once(workspace: Workspace) -> None:
    add_dataset(workspace, "set", {f"{number}.png": [f"river {number}"] for number in range(50)})
    faults: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(5):
                assert Catalog(workspace).search_captions("river", 50)
                Catalog(workspace).update(workspace.datasets / "set")
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []


@pytest.mark.parametrize("indexed", [False, True])
def test_a_workspace_that_may_only_be_read_can_be_searched(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, indexed: bool
) -> None:
    if indexed:
        Catalog(workspace).refresh()
    add_dataset(workspace, "set", {"a.png": ["a river"]})
    if os.geteuid() == 0:  # root may write anywhere, so SQLite is told not to
        connect = sqlite3.connect

        def read_only(path: object, **options: object) -> sqlite3.Connection:
            if path == ":memory:":
                return connect(path, **options)  # type: ignore[call-overload, no-any-return]
            return connect(f"file:{path}?mode=ro", uri=True, **options)  # type: ignore[call-overload, no-any-return]

        monkeypatch.setattr(sqlite3, "connect", read_only)
    else:
        workspace.root.chmod(0o500)
    catalog = Catalog(workspace)
    assert len(catalog.search_captions("river")) == 1
    assert len(catalog.search_captions("river")) == 1
    workspace.root.chmod(0o700)


def test_an_index_that_may_only_be_read_is_not_taken_for_broken(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_dataset(workspace, "set", {"images/a.png": ["a river"]})
    Catalog(workspace).rebuild()
    connect = catalog._connect

    def connect_to_read(path: Path | str) -> sqlite3.Connection:
        connection = connect(path)
        connection.execute("PRAGMA query_only = ON")
        return connection

    monkeypatch.setattr(catalog, "_connect", connect_to_read)
    assert Catalog(workspace).faults() == []
