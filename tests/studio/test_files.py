import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from studio import files

REPLACE_FOR_EVER = """
import sys
from pathlib import Path
from studio import files
path, turn = Path(sys.argv[1]), 0
while True:
    turn += 1
    files.write_bytes(path, bytes([turn % 256]) * 200_000)
    if turn == 1:
        print("begun", flush=True)
"""


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(files.TEMPORARY)]


def write_half(path: Path) -> None:
    path.write_text("ne")
    raise OSError("The disk is full.")


# Files


def test_a_written_file_holds_what_was_written(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a" / "new.txt", "raw bytes \udcff stay")
    assert (tmp_path / "a" / "new.txt").read_bytes() == b"raw bytes \xff stay"
    assert leftovers(tmp_path) == []


def test_a_file_that_cannot_be_made_whole_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    files.write_text(path, "old")
    with pytest.raises(OSError, match="disk"), files.replacing(path) as temporary:
        write_half(temporary)
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == []


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    for _ in range(5):
        command = [sys.executable, "-c", REPLACE_FOR_EVER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            writer.kill()
        data = path.read_bytes()
        assert len(data) == 200_000
        assert len(set(data)) == 1


def test_json_is_written_for_people_to_read(tmp_path: Path) -> None:
    files.write_json(tmp_path / "x.json", {"name": "Zürich"})
    assert (tmp_path / "x.json").read_text("utf-8") == '{\n  "name": "Zürich"\n}\n'


# Folders


def test_a_folder_appears_whole_with_its_manifest(tmp_path: Path) -> None:
    target = tmp_path / "checkpoints" / "step-000100"
    with files.whole_folder(target) as folder:
        (folder / "unet").mkdir()
        (folder / "unet" / "weights").write_bytes(b"abc")
        assert not target.exists()
    assert files.manifest_faults(target) == []
    assert json.loads((target / files.MANIFEST).read_text())["files"]["unet/weights"]["bytes"] == 3


def test_a_folder_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk"), files.whole_folder(tmp_path / "target") as folder:
        write_half(folder / "weights")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_does_not_take_the_place_of_another(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "kept").write_text("x")
    with pytest.raises(OSError, match="not empty"), files.whole_folder(tmp_path / "target") as folder:
        (folder / "new").write_text("y")
    assert [path.name for path in tmp_path.rglob("*")] == ["target", "kept"]


# Manifests


def test_one_flipped_byte_anywhere_is_found(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(os.urandom(200))
    (tmp_path / "state.json").write_text("{}")
    files.write_manifest(tmp_path)
    whole = (tmp_path / "weights").read_bytes()
    for place in range(200):
        broken = bytearray(whole)
        broken[place] ^= 1
        (tmp_path / "weights").write_bytes(broken)
        assert files.manifest_faults(tmp_path) == [(tmp_path / "weights", "changed")]
    (tmp_path / "weights").write_bytes(whole)
    assert files.manifest_faults(tmp_path) == []


def test_a_shallow_look_sees_sizes_and_what_is_missing(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text("1234")
    files.write_manifest(tmp_path)
    (tmp_path / "a").write_text("5678")
    (tmp_path / "b").write_text("123")
    (tmp_path / "c").unlink()
    assert files.manifest_faults(tmp_path, deep=False) == [(tmp_path / "b", "changed"), (tmp_path / "c", "missing")]


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b"{}", b'{"files": 3}', b'{"files": {"a": {}}}', b"\xff\xfe", b"[" * 100_000]
)
def test_a_broken_manifest_is_as_good_as_none(damage: bytes, tmp_path: Path) -> None:
    (tmp_path / files.MANIFEST).write_bytes(damage)
    assert files.manifest_faults(tmp_path) == [(tmp_path / files.MANIFEST, "no manifest")]


def test_a_manifest_knows_odd_names_and_leaves_out_leftovers_and_what_changes(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9\n.png")
    odd.write_bytes(b"x")
    for name in (f"{files.TEMPORARY}1-half", "events.jsonl"):
        (tmp_path / name).write_text("x")
    files.write_manifest(tmp_path, exclude=("events.jsonl",), later={"last": b"end"})
    assert files.manifest_faults(tmp_path) == [(tmp_path / "last", "missing")]
    (tmp_path / "last").write_bytes(b"end")
    odd.write_bytes(b"y")
    assert files.manifest_faults(tmp_path) == [(odd, "changed")]


# Records


def test_records_are_read_back_and_torn_or_foreign_lines_skipped(tmp_path: Path) -> None:
    path = tmp_path / "ratings.jsonl"
    files.append_record(path, {"path": "odd \udcff name"})
    with path.open("ab") as file:
        file.write(b"[1]\n\xff\xfe\n" + b"[" * 100_000 + b'\n{"torn": ')
    files.append_record(path, {"rating": 5})
    assert list(files.read_records(path)) == [{"path": "odd \udcff name"}, {"rating": 5}]


def test_records_added_by_many_at_once_are_all_there(tmp_path: Path) -> None:
    path = tmp_path / "favourites.jsonl"
    writers = [threading.Thread(target=files.append_record, args=(path, {"number": n})) for n in range(16)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(record["number"] for record in files.read_records(path)) == list(range(16))


def test_a_file_that_is_not_there_has_no_records(tmp_path: Path) -> None:
    assert list(files.read_records(tmp_path / "none.jsonl")) == []


def test_a_folder_is_empty_where_it_is_absent_but_not_where_a_file_is(tmp_path: Path) -> None:
    assert files.folder_is_empty(tmp_path)
    assert files.folder_is_empty(tmp_path / "absent")
    (tmp_path / "file").write_text("")
    assert not files.folder_is_empty(tmp_path)
    assert not files.folder_is_empty(tmp_path / "file")
