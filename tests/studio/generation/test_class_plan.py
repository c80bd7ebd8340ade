"""Class plans as files and as rounds of attempts; no model is opened."""

from collections import Counter
from pathlib import Path

import pytest

from studio.errors import UsageError
from studio.generation.class_plan import Plan, find_plan, plan_classes, plans, read_plan, rounds, tally, tile_seed
from studio.generation.plans import summary
from studio.workspace import TEMPLATE, Workspace


def plan(**other: object) -> Plan:
    classes = [
        {"label": "forest", "count": 3, "prompts": ["a", "b"]},
        {"label": "water", "name": "Water body", "count": 2, "prompts": ["c {x|y}"], "negative": "fog"},
    ]
    return Plan.model_validate({"attempts": 2, "negative": "noise", "classes": classes} | other)


class TestTheTilesOfAPlan:
    def test_are_as_many_as_the_budget_allows_with_prompts_in_turn(self) -> None:
        tiles = plan_classes(plan(before="from above: ", after=", 8k"), seed=7)
        assert [tile.index for tile in tiles] == list(range(10))
        assert summary(tiles) == {"forest": 6, "water": 4}
        assert [tile.prompt for tile in tiles[:3]] == [f"from above: {text}, 8k" for text in "aba"]
        assert [(tile.prompt, tile.negative) for tile in tiles[6:8]] == [
            ("from above: c x, 8k", "fog"),
            ("from above: c y, 8k", "fog"),
        ]
        assert {tile.negative for tile in tiles[:6]} == {"noise"}

    def test_depend_on_seed_class_and_attempt_alone(self) -> None:
        """Another class, another count or another budget changes no tile that there is in both."""
        before = {(tile.label, tile.seed, tile.prompt) for tile in plan_classes(plan(), seed=7)}
        classes = [one.model_dump() | {"count": one.count + 4} for one in reversed(plan().classes)]
        more = [{"label": "road", "count": 1, "prompts": ["d"]}, *classes]
        after = {(tile.label, tile.seed, tile.prompt) for tile in plan_classes(plan(classes=more, attempts=3), seed=7)}
        assert before < after
        assert not before & {(tile.label, tile.seed, tile.prompt) for tile in plan_classes(plan(), seed=8)}

    def test_have_seeds_of_their_own_that_stay_the_same(self) -> None:
        seeds = {tile_seed(seed, label, n) for seed in (0, 1) for label in ("a", "b") for n in range(500)}
        assert len(seeds) == 2000
        assert max(seeds) < 2**48
        assert tile_seed(42, "bare-land", 0) == 246247767488149


class TestRounds:
    def test_make_up_for_what_was_refused(self) -> None:
        tiles = plan_classes(plan(), seed=0)
        verdicts: dict[int, str] = {}
        going = rounds(plan(), tiles, verdicts)
        assert [tile.index for tile in next(going)] == [0, 1, 2, 6, 7]
        verdicts |= {0: "", 1: "flat: x", 2: "flat: y", 6: "", 7: "border: z"}
        assert [tile.index for tile in next(going)] == [3, 4, 8]
        verdicts |= {3: "", 4: "", 8: ""}
        assert list(going) == []

    def test_end_when_the_attempts_are_used_up(self) -> None:
        tiles = plan_classes(plan(), seed=0)
        verdicts: dict[int, str] = {}
        tried: list[int] = []
        for wave in rounds(plan(), tiles, verdicts):
            tried += [tile.index for tile in wave]
            verdicts |= {tile.index: "" if tile.label == "water" else "noise: 0" for tile in wave}
        assert sorted(tried) == [0, 1, 2, 3, 4, 5, 6, 7]
        forest, water = tally(plan(), tiles, verdicts)
        assert forest == {
            "label": "forest", "name": "forest", "wanted": 3, "kept": 0, "missing": 3, "attempts": 6,
            "refused": {"noise": 6},
        }  # fmt: skip
        assert (water["name"], water["kept"], water["missing"], water["attempts"]) == ("Water body", 2, 0, 2)


class TestAPlanFile:
    def test_names_every_fault(self, tmp_path: Path) -> None:
        path = tmp_path / "plan.toml"
        path.write_text('[[classes]]\nlabel = "a"\ncount = 0\nprompts = []\nprompt = "x"\n')
        with pytest.raises(UsageError, match="3 faults"):
            read_plan(path)

    def test_plans_some_class(self, tmp_path: Path) -> None:
        path = tmp_path / "plan.toml"
        path.write_text('description = "nothing"\n')
        with pytest.raises(UsageError, match="plans no classes"):
            read_plan(path)

    def test_files_no_two_classes_under_one_name(self, tmp_path: Path) -> None:
        path = tmp_path / "plan.toml"
        row = '[[classes]]\nlabel = "{}"\ncount = 1\nprompts = ["a"]\n'
        path.write_text(row.format("Snow/Ice") + row.format("snow ice"))
        with pytest.raises(UsageError, match="filed under snow-ice"):
            read_plan(path)

    def test_is_found_by_name_or_path(self, made_workspace: Workspace, tmp_path: Path) -> None:
        assert find_plan(made_workspace, "land-cover-388").wanted == 388
        path = made_workspace.plans / "mine.toml"
        path.write_text('[[classes]]\nlabel = "a"\ncount = 1\nprompts = ["a"]\n')
        assert find_plan(made_workspace, "mine") == find_plan(made_workspace, str(path))
        with pytest.raises(UsageError, match="Did you mean land-cover-388"):
            find_plan(made_workspace, "land-cover-338")

    def test_comes_from_the_template_where_a_workspace_has_none(self, tmp_path: Path) -> None:
        assert find_plan(Workspace(tmp_path / "none"), "land-cover-388").wanted == 388


class TestThePlansThatShip:
    @pytest.mark.parametrize("name", sorted(path.stem for path in (TEMPLATE / "plans").glob("*.toml")))
    def test_are_whole(self, name: str, made_workspace: Workspace) -> None:
        shipped = read_plan(plans(made_workspace)[name])
        assert shipped.description
        assert shipped.known_problems
        assert len({tile.seed for tile in plan_classes(shipped, 42)}) == len(plan_classes(shipped, 42))

    @pytest.mark.parametrize("name", ["land-cover-388", "land-cover-388-code"])
    def test_hold_the_papers_counts(self, name: str, made_workspace: Workspace) -> None:
        """Table 2 of Remote Diffusion."""
        shipped = find_plan(made_workspace, name)
        assert {one.label: one.count for one in shipped.classes} == {
            "bare-land": 52, "crop-land": 57, "cultivated-vegetation": 54, "natural-vegetation": 54, "snow-ice": 58,
            "water-body": 52, "woody-vegetation": 61,
        }  # fmt: skip
        assert shipped.wanted == 388

    def test_hold_the_papers_prompts_and_cues_word_for_word(self, made_workspace: Workspace) -> None:
        shipped = find_plan(made_workspace, "land-cover-388")
        assert [prompt for one in shipped.classes for prompt in one.prompts] == [
            "barren landscape of a rocky desert canyon",
            "vineyards and orchards in a wine-producing region",
            "golden hues of ripe wheat fields ready for harvest",
            "mixed oak-hickory forest with vibrant autumn foliage",
            "ice floes drifting in the Arctic Ocean under the northern lights",
            "cluster of small islands surrounded by shallow turquoise waters",
            "coastal mangrove swamp with meandering tidal creeks",
        ]
        assert shipped.negative == "wrapped, repeating, blurry, deformed, low-quality"
        assert [one.title for one in shipped.classes][4] == "Snow Ice"

    def test_hold_the_codes_cues_word_for_word(self, made_workspace: Workspace) -> None:
        shipped = find_plan(made_workspace, "land-cover-388-code")
        assert shipped.after == " , 8k, best quality, high-resolution"
        assert shipped.negative == (
            "weird colors, low quality, jpeg artifacts, lowres, grainy, deformed structures, blurry, opaque, "
            "low contrast, distorted details, details are low"
        )
        assert Counter(one.title for one in shipped.classes).keys() >= {"Bare ground", "Snow/Ice", "Water body"}
