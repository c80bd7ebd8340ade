import random
from pathlib import Path

import pytest
import torch

from studio.models import checkpoints


def save(run: Path, step: int) -> Path:
    def write(folder: Path) -> None:
        (folder / "lora").mkdir()
        (folder / "lora" / "weights").write_bytes(bytes(64))

    return checkpoints.save(run, step, {"weights.a": torch.full((8,), step)}, {"step": step}, write)


def steps(run: Path) -> list[int]:
    return [checkpoints.step_of(path) for path in checkpoints.all_of(run)]


def flip(path: Path, place: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    path = save(tmp_path, 2)
    tensors, state = checkpoints.load(path)
    assert state == {"step": 2}
    assert torch.equal(tensors["weights.a"], torch.full((8,), 2))


def test_the_newest_whole_one_is_taken(tmp_path: Path) -> None:
    saved = [save(tmp_path, step) for step in (2, 4, 10)]
    assert checkpoints.newest(tmp_path) == saved[2]
    flip(saved[2] / checkpoints.TRAINING_FILE, -1)
    assert checkpoints.newest(tmp_path) == saved[1]
    assert checkpoints.at_step(tmp_path, 10) is None
    (saved[1] / "manifest.json").unlink()
    assert checkpoints.newest(tmp_path) == saved[0]
    (saved[0] / "lora" / "weights").unlink()
    assert checkpoints.newest(tmp_path) is None


def test_any_flipped_bit_of_any_file_is_found(tmp_path: Path) -> None:
    path = save(tmp_path, 2)
    chance = random.Random(0)
    for file in sorted(one for one in path.rglob("*") if one.is_file()):
        whole = file.read_bytes()
        for _ in range(50):
            data = bytearray(whole)
            place, bit = chance.randrange(len(data)), chance.randrange(8)
            data[place] ^= 1 << bit
            file.write_bytes(data)
            # A manifest that says the same with another space in it is as good.
            found = checkpoints.newest(tmp_path)
            assert found is None or (file.name == "manifest.json" and chr(whole[place]).isspace()), (file, place)
        file.write_bytes(whole)
    assert checkpoints.newest(tmp_path) == path


def test_a_torn_one_is_written_again(tmp_path: Path) -> None:
    flip(save(tmp_path, 2) / checkpoints.STATE_FILE)
    assert checkpoints.newest(tmp_path) is None
    path = save(tmp_path, 2)
    assert checkpoints.newest(tmp_path) == path


def test_the_last_few_and_the_named_are_kept(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8):
        save(tmp_path, step)
    checkpoints.prune(tmp_path, 8, keep_last=2, keep_steps=[2])
    assert steps(tmp_path) == [2, 6, 8]


def test_a_torn_later_one_never_displaces_a_whole_one(tmp_path: Path) -> None:
    save(tmp_path, 2)
    flip(save(tmp_path, 6) / checkpoints.TRAINING_FILE, -1)
    save(tmp_path, 4)  # by a run that went on from 2
    checkpoints.prune(tmp_path, 4, keep_last=1)
    assert steps(tmp_path) == [4]
    assert checkpoints.newest(tmp_path) is not None


def test_a_save_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        checkpoints.save(tmp_path, 2, {"a": torch.ones(1)}, {}, write)
    assert list((tmp_path / "checkpoints").iterdir()) == []
