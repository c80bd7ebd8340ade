import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from studio import files
from studio.control import Control
from studio.datasets import importer
from studio.datasets.dataset import FACTS, held_out_split, open_dataset, parse_reference
from studio.datasets.pictures import NotImportable, look
from studio.display import shown
from studio.errors import UsageError
from studio.events import Event, Phase, Refused, Warned
from studio.jobs import execute
from studio.runs import state_of
from studio.workspace import Workspace
from tests.studio.datasets.imports import fill, job, metadata, picture, run_import

REPOSITORY = Path(__file__).resolve().parents[3]


def many(root: Path, count: int) -> Path:
    return fill(root, {f"River/{number}.png": picture(number) for number in range(count)})


def test_a_mixed_folder_imports_the_good_and_names_the_rest(workspace: Workspace, tmp_path: Path) -> None:
    names = ("good.jpg", "text.jpg", "short.jpg", "gone.jpg")
    source = fill(
        tmp_path / "in",
        {
            "good.jpg": picture(1, 64, "JPEG"),
            "text.jpg": "not a picture",
            "short.jpg": picture(2, 64, "JPEG")[:-300],
            "metadata.jsonl": metadata({"file_name": name, "text": "x"} for name in names),
        },
    )
    finished, events = run_import(workspace, source)
    assert (finished.outcome, finished.exit_code) == ("completed", 0)
    assert finished.result == {"name": "set", "given": 4, "imported": 1, "refused": 3}
    refused = {event.file: event.reason for event in events if isinstance(event, Refused)}
    assert refused["text.jpg"].startswith("is not a picture")
    assert refused["short.jpg"].startswith("is damaged")
    assert refused["gone.jpg"] == "there is no such file"


def test_a_finished_import_is_whole_by_its_manifest(workspace: Workspace, tmp_path: Path) -> None:
    run_import(workspace, many(tmp_path / "in", 5))
    folder = workspace.datasets / "set"
    assert files.manifest_faults(folder) == []
    assert state_of(folder).status == "completed"
    assert not list(folder.glob(".tmp-*"))
    for name in ("images/river_3.png", "captions.jsonl", FACTS, "config.toml"):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert files.manifest_faults(folder) == [(folder / name, "changed")]
        (folder / name).write_bytes(data)


def test_pictures_are_held_out_by_seed_alone(workspace: Workspace, tmp_path: Path) -> None:
    source = many(tmp_path / "in", 20)
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        run_import(workspace, source, name, hold_out=5, seed=seed)
    first, again, other = (open_dataset(workspace, name) for name in ("first", "again", "other"))
    assert first.splits == {"held-out": 5, "train": 15}
    assert first.split_sha256("held-out") == again.split_sha256("held-out") != other.split_sha256("held-out")
    assert len(first.pictures("held-out")) == 5
    assert not {one.sha256 for one in first.pictures("train")} & {one.sha256 for one in first.pictures("held-out")}


def test_a_picture_in_train_and_in_another_split_is_told_of(workspace: Workspace, tmp_path: Path) -> None:
    names = {"train/a.png": picture(1), "test/b.png": picture(1), "test/c.png": picture(2)}
    _, events = run_import(workspace, fill(tmp_path / "in", names))
    warnings = [event.message for event in events if isinstance(event, Warned)]
    assert warnings == ["1 of 2 pictures of test are in train too, such as images/b.png."]


def test_any_name_is_stored_under_a_safe_one_and_kept_in_source(workspace: Workspace, tmp_path: Path) -> None:
    odd = [b"\xff\xfe.png", b"new\nline.png", b"-rf.png", b"CON.png", b"a.PNG", b"A.png", b"x..png.png", b" .png"]
    odd += [b"a" * 251 + b".png", b"[bold].png", b"\x1b]52;c;x\x07.png", b"quote'\".png"]
    odd += ["\u202egnp.png".encode(), "日本.png".encode()]
    root = tmp_path / "in"
    root.mkdir()
    for number, name in enumerate(odd):
        (root / os.fsdecode(name)).write_bytes(picture(number))
    finished, _ = run_import(workspace, root)
    assert finished.result["imported"] == len(odd)
    pictures = open_dataset(workspace, "set").pictures()
    assert {os.fsencode(one.source) for one in pictures} == set(odd)
    assert len({one.file_name.lower() for one in pictures}) == len(odd)
    assert all(one.file_name.isascii() and shown(one.file_name) == one.file_name for one in pictures)
    assert all((workspace.datasets / "set" / one.file_name).is_file() for one in pictures)


def test_equal_names_in_different_folders_do_not_overwrite_each_other(workspace: Workspace, tmp_path: Path) -> None:
    names = ("x/a.png", "y/a.png", "z/a-2.png", "w/a.jpg")
    source = fill(tmp_path / "in", {name: picture(number) for number, name in enumerate(names)})
    run_import(workspace, source, format="folder")
    dataset = open_dataset(workspace, "set")
    assert len({one.file_name for one in dataset.pictures()}) == len(names)
    assert all(files.sha256_of(dataset.path(one)) == one.sha256 for one in dataset.pictures())


def test_links_lead_to_the_originals(workspace: Workspace, tmp_path: Path) -> None:
    source = many(tmp_path / "in", 3)
    run_import(workspace, source, link=True)
    dataset = open_dataset(workspace, "set")
    assert {dataset.path(one).resolve() for one in dataset.pictures()} == {*source.resolve().rglob("*.png")}
    assert files.manifest_faults(dataset.folder) == []


def test_a_stopped_import_goes_on_where_it_was(workspace: Workspace, tmp_path: Path) -> None:
    source = fill(many(tmp_path / "in", 12), {"River/0.png": b"no picture"})
    work = job(workspace, source)
    control = Control(work.folder.control_path)
    events: list[Event] = []

    def stop_in_the_middle(event: Event) -> None:
        events.append(event)
        if isinstance(event, Phase) and event.name == "Importing pictures":
            control.ask("stop")

    stopped = execute(work, control, stop_in_the_middle)
    assert (stopped.outcome, stopped.exit_code) == ("stopped", 75)
    with pytest.raises(UsageError, match="unfinished"):
        open_dataset(workspace, "set")
    finished, events = run_import(workspace, source)
    assert finished.result == {"name": "set", "given": 12, "imported": 11, "refused": 1}
    assert [event.file for event in events if isinstance(event, Refused)] == ["River/0.png"]
    assert len(state_of(work.folder.path).refused) == 1


def test_an_import_with_other_settings_starts_over(workspace: Workspace, tmp_path: Path) -> None:
    source = many(tmp_path / "in", 4)
    work = job(workspace, source)
    control = Control()
    control.ask("stop")
    execute(work, control)
    fill(work.folder.path, {"images/stray.png": "left"})
    run_import(workspace, source, caption="a {class}")
    dataset = open_dataset(workspace, "set")
    assert {one.captions for one in dataset.pictures()} == {("a river",)}
    assert not (dataset.folder / "images" / "stray.png").exists()


def _stored(folder: Path) -> int:
    return sum(1 for _ in folder.glob("images/*"))


def test_an_import_killed_at_any_moment_is_unfinished_and_ends_alike_when_done_again(
    workspace: Workspace, tmp_path: Path
) -> None:
    source = many(tmp_path / "in", 400)
    run_import(workspace, source, "whole", hold_out=50)
    expected = (workspace.datasets / "whole" / "captions.jsonl").read_bytes()
    code = (
        "import sys; from pathlib import Path; from studio.workspace import Workspace\n"
        "from tests.studio.datasets.imports import run_import\n"
        "print('ready', flush=True); run_import(Workspace(Path(sys.argv[1])), sys.argv[2], 'killed', hold_out=50)"
    )
    folder = workspace.datasets / "killed"
    chance = random.Random(0)
    killed = 0
    for _ in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", code, str(workspace.root), str(source)], cwd=REPOSITORY, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            enough = _stored(folder) + chance.randrange(60)
            while process.poll() is None and _stored(folder) < enough:
                pass  # however fast the machine is, some are left to do
            process.send_signal(signal.SIGKILL)
        if (folder / FACTS).exists():
            assert files.manifest_faults(folder) == []
            break
        killed += 1
    assert killed
    if not (folder / FACTS).exists():
        run_import(workspace, source, "killed", hold_out=50)
    assert (folder / "captions.jsonl").read_bytes() == expected
    assert files.manifest_faults(folder) == []


def test_an_import_stopped_at_its_last_file_finishes_again(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = files.write_bytes

    def die(path: Path, data: bytes) -> None:
        if path.name == FACTS:
            raise KeyboardInterrupt
        write(path, data)

    source = many(tmp_path / "in", 6)
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_bytes", die)
        with pytest.raises(KeyboardInterrupt):
            run_import(workspace, source)
    assert not (workspace.datasets / "set" / FACTS).exists()
    assert run_import(workspace, source)[0].result["imported"] == 6
    assert files.manifest_faults(workspace.datasets / "set") == []


def test_a_finished_data_set_is_not_imported_over(workspace: Workspace, tmp_path: Path) -> None:
    source = many(tmp_path / "in", 2)
    run_import(workspace, source)
    assert run_import(workspace, source)[0].exit_code == 2
    assert files.manifest_faults(workspace.datasets / "set") == []


def test_bombs_sixteen_bits_and_emptiness_are_refused_by_name(tmp_path: Path) -> None:
    importer.refuse_bombs()
    Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    Image.new("1", (9600, 9600)).save(tmp_path / "large.png")
    Image.new("I;16", (8, 8)).save(tmp_path / "deep.png")
    Image.new("I;16", (8, 8)).save(tmp_path / "deep.tif")
    Image.new("F", (8, 8)).save(tmp_path / "float.tif")
    for name, reason in {"bomb.png": "pixels", "large.png": "pixels", "deep.png": "8 bits", "deep.tif": "8 bits",
                         "float.tif": "8 bits"}.items():  # fmt: skip
        with pytest.raises(NotImportable, match=reason):
            look((tmp_path / name).read_bytes())
    with pytest.raises(NotImportable, match="is empty"):
        look(b"")


def test_two_hundred_damaged_pictures_are_all_accounted_for() -> None:
    chance = random.Random(1)
    whole = [picture(number, 64, form) for number, form in enumerate(("JPEG", "PNG", "TIFF", "WEBP", "BMP", "GIF"))]
    started = time.monotonic()
    outcomes = set()
    for number in range(200):
        data = bytearray(whole[number % len(whole)])
        if number % 2:
            del data[chance.randrange(1, len(data)) :]
        for _ in range(0 if number % 2 else 20):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            outcomes.add(look(bytes(data)).suffix)
        except NotImportable:
            outcomes.add("refused")
    assert "refused" in outcomes
    assert time.monotonic() - started < 30


def test_the_size_of_a_picture_is_that_of_its_upright_view(tmp_path: Path) -> None:
    image = Image.new("RGB", (32, 16))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    seen = look((tmp_path / "turned.jpg").read_bytes())
    assert (seen.width_px, seen.height_px) == (16, 32)


def test_a_split_to_measure_on_is_found_or_what_there_is_is_named(workspace: Workspace, tmp_path: Path) -> None:
    source = tmp_path / "in"
    fill(source, {f"{split}/{seed}.png": picture(seed) for seed, split in enumerate(("train", "valid", "test"))})
    run_import(workspace, source)
    dataset = open_dataset(workspace, "set")
    assert held_out_split(dataset) == "valid"
    assert held_out_split(dataset, "test") == "test"
    with pytest.raises(UsageError, match="Did you mean test"):
        held_out_split(dataset, "tests")
    with pytest.raises(UsageError, match="Did you mean train"):
        dataset.pictures("trian")
    run_import(workspace, many(tmp_path / "bare", 2), "bare")
    with pytest.raises(UsageError, match="it has train"):
        held_out_split(open_dataset(workspace, "bare"))
    assert parse_reference("rsicd:valid") == ("rsicd", "valid")
    assert parse_reference("rsicd") == ("rsicd", "")


def test_an_unknown_data_set_offers_the_nearest_name(workspace: Workspace, tmp_path: Path) -> None:
    run_import(workspace, many(tmp_path / "in", 1), "rsicd")
    with pytest.raises(UsageError, match="Did you mean rsicd"):
        open_dataset(workspace, "rscid")
