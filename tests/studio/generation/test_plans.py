import json
from collections import Counter
from pathlib import Path

import pytest

from studio.errors import UsageError
from studio.generation.plans import (
    PlannedTile,
    PromptLine,
    plan_tiles,
    planned,
    read_prompts,
    tile_name,
    write_plan,
)
from studio.workspace import Workspace
from tests.studio.training_runs import make_dataset


def test_choices_are_written_out_and_taken_in_turn() -> None:
    tiles = plan_tiles([PromptLine("a {red|green} roof", "fog"), PromptLine("a road", label="road")], 5, seed=10)
    assert [(tile.prompt, tile.seed, tile.index) for tile in tiles] == [
        ("a red roof", 10, 0),
        ("a green roof", 11, 1),
        ("a road", 12, 2),
        ("a red roof", 13, 3),
        ("a green roof", 14, 4),
    ]
    assert [(tile.negative, tile.label) for tile in tiles[1:3]] == [("fog", ""), ("", "road")]


def test_no_count_means_one_tile_for_each_prompt() -> None:
    assert len(plan_tiles([PromptLine("a {red|green} {roof|car}"), PromptLine("b")], 0, seed=0)) == 5
    assert len(plan_tiles([PromptLine("a"), PromptLine("b")], 1, seed=0)) == 1


def test_a_plan_on_disk_is_the_plan(tmp_path: Path) -> None:
    tiles = [PlannedTile(0, "a “quoted” ½ \u2028 line", "", 2**63, "x"), PlannedTile(1, "b", "c", 0, "")]
    write_plan(tmp_path / "plan.jsonl", tiles)
    assert planned(tmp_path / "plan.jsonl") == tiles
    assert tile_name(tiles[1]) == "000002.png"


class TestPrompts:
    def test_of_a_text_file_one_a_line(self, made_workspace: Workspace, tmp_path: Path) -> None:
        path = tmp_path / "prompts.txt"
        path.write_bytes("a river\n\n  a café \r\n\xff".encode("latin-1"))
        lines = read_prompts(made_workspace, str(path), negative="fog")
        assert [(line.prompt, line.negative) for line in lines] == [
            ("a river", "fog"),
            ("a caf\ufffd", "fog"),
            ("\ufffd", "fog"),
        ]

    def test_of_lines_of_json_with_labels(self, made_workspace: Workspace, tmp_path: Path) -> None:
        path = tmp_path / "prompts.jsonl"
        rows = [{"prompt": "a", "negative": "own", "label": "x"}, {"text": "b"}, {"prompt": 3}, {"prompt": " "}]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"torn')
        assert read_prompts(made_workspace, str(path), "other") == [
            PromptLine("a", "own", "x"),
            PromptLine("b", "other"),
        ]

    def test_of_a_book_by_its_name(self, made_workspace: Workspace) -> None:
        (made_workspace.prompts / "mine.toml").write_text('[[prompts]]\nprompt = "a {b|c}"\nnegative = "d"\n')
        assert read_prompts(made_workspace, "mine") == [PromptLine("a {b|c}", "d")]

    def test_of_a_data_set_with_its_classes_in_turn(self, made_workspace: Workspace) -> None:
        """Data sets list class after class; the first few prompts shall show them all."""
        folder = make_dataset(made_workspace, train=18, valid=0)
        rows = sorted(
            (folder / "captions.jsonl").read_text().splitlines(), key=lambda row: str(json.loads(row)["label"])
        )
        (folder / "captions.jsonl").write_text("\n".join(rows) + "\n")
        lines = read_prompts(made_workspace, "set:train")
        assert len(lines) == 18
        assert Counter(line.label for line in lines[:6]) == Counter({line.label for line in lines})
        assert all(line.label in line.prompt for line in lines)

    def test_a_caption_offers_no_choices(self, made_workspace: Workspace) -> None:
        folder = make_dataset(made_workspace, train=2, valid=1)
        text = (folder / "captions.jsonl").read_text().replace("one road", "a {b|c}").replace("one river", "a {b|c}")
        (folder / "captions.jsonl").write_text(text)
        prompts = [tile.prompt for tile in plan_tiles(read_prompts(made_workspace, "set:train"), 0, seed=0)]
        assert len(prompts) == 2
        assert "a (b|c)" in prompts

    def test_nothing_of_that_name_or_nothing_in_it(self, made_workspace: Workspace, tmp_path: Path) -> None:
        make_dataset(made_workspace, valid=0)
        (tmp_path / "empty.txt").write_text("\n \n")
        for source, said in (
            (str(tmp_path / "empty.txt"), "holds no prompts"),
            ("sett:train", "Did you mean set"),
            ("set:valid", "split of set"),
            ("set", "no split kept from training"),
        ):
            with pytest.raises(UsageError, match=said):
                read_prompts(made_workspace, source)
