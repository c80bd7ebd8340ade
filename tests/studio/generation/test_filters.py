"""What refuses a tile: each filter on pictures that show its fault, and on pictures that only look a little like it."""

import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from studio.datasets import terrain
from studio.datasets.augmentation import orient
from studio.errors import UsageError
from studio.generation import filters
from studio.generation.class_plan import Plan
from studio.generation.filters import Judge, accepted_classes, artefact, border
from studio.generation.plans import PlannedTile
from studio.measures.features import Network
from studio.settings import D4


def picture(seed: int = 0, side: int = 64) -> np.ndarray:
    """Smooth coloured ground with some grain, as seen from above."""
    random = np.random.default_rng(seed)
    coarse = torch.from_numpy(random.uniform(40, 210, (1, 3, 6, 6)))
    smooth = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")[0].permute(1, 2, 0).numpy()
    return np.clip(smooth + random.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)


@dataclass
class Means:
    """Features and class scores that can be reckoned by hand: the mean of each of nine places, and of each colour."""

    classes: tuple[str, ...] = ("farmland", "ForestLand", "sea")

    def network(self) -> Network:
        def forward(pictures: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.adaptive_avg_pool2d(pictures, 3).flatten(1) / 255 - 0.5

        def scores(vectors: torch.Tensor) -> torch.Tensor:
            red, green, blue = vectors.reshape(len(vectors), 3, 9).mean(2).unbind(1)
            return 20 * torch.stack([red, green, blue], 1)

        return Network("means", "0" * 64, 27, False, "", "cpu", forward, self.classes, scores if self.classes else None)


@pytest.fixture
def means(monkeypatch: pytest.MonkeyPatch) -> Means:
    made = Means()
    monkeypatch.setattr(filters, "open_network", lambda name, device: made.network())
    return made


def plan(classes: tuple[str, ...] = ("forest land", "Farmland", "snow"), **filters: object) -> Plan:
    rows = [{"label": label, "count": 9, "prompts": ["a"]} for label in classes]
    return Plan.model_validate({"classes": rows, "filters": {"near_duplicates": 0, **filters}})


def tile(label: str = "snow", index: int = 0) -> PlannedTile:
    return PlannedTile(index, "a", "", 0, label)


class TestArtefacts:
    @pytest.mark.parametrize("seed", range(5))
    def test_ground_is_none(self, seed: int) -> None:
        assert artefact(picture(seed)) == ""

    @pytest.mark.parametrize("label", terrain.CLASSES)
    def test_painted_land_is_none(self, label: str) -> None:
        assert not any(artefact(tile) or border(tile) for tile in (terrain.tile(label, seed) for seed in range(4)))

    def test_one_colour_is_flat(self) -> None:
        grain = np.random.default_rng(0).integers(0, 4, (64, 64, 3))
        assert artefact((120 + grain).astype(np.uint8)).startswith("flat: ")

    def test_mostly_white_or_black_is_clipped(self) -> None:
        washed = picture()
        washed[:20], washed[20:40] = 255, 0
        assert artefact(washed).startswith("clipped: 6")
        washed[:20] = 200
        assert artefact(washed) == ""

    def test_strong_noise_is_noise_and_a_faint_meadow_is_not(self) -> None:
        random = np.random.default_rng(0)
        assert artefact(random.integers(0, 256, (64, 64, 3), dtype=np.uint8)).startswith("noise: ")
        meadow = np.repeat(random.normal(110, 5, (64, 64, 1)), 3, 2)
        assert artefact(meadow.astype(np.uint8)) == ""


class TestBorders:
    @pytest.mark.parametrize(("side", "place"), [("top", (0, False)), ("bottom", (0, True)), ("left", (1, False)),
                                                 ("right", (1, True))])  # fmt: skip
    @pytest.mark.parametrize("width", [1, 4, 8])
    def test_a_strip_of_one_colour_is_found_on_each_side(self, side: str, place: tuple[int, bool], width: int) -> None:
        framed = picture(3).swapaxes(0, place[0]).copy()
        framed[slice(-width, None) if place[1] else slice(width)] = 250
        assert border(framed.swapaxes(0, place[0])) == f"border: {width} px at the {side}"

    @pytest.mark.parametrize("seed", range(5))
    def test_ground_has_none(self, seed: int) -> None:
        assert border(picture(seed)) == ""

    def test_calm_water_along_a_side_is_none(self) -> None:
        """A coast that is deeper than an eighth, and one that does not follow the side."""
        coast = picture()
        coast[:20] = (20, 60, 110)
        assert border(coast) == ""
        slanting = picture()
        for row in range(12):
            slanting[row, : 64 - 6 * row] = (20, 60, 110)
        assert border(slanting) == ""


class TestNearDuplicates:
    def test_are_seen_in_all_eight_orientations(self, means: Means) -> None:
        judge = Judge(plan(near_duplicates=0.99), "cpu")
        assert judge.reason(tile(), picture(1)) == ""
        judge.remember(tile(index=6), picture(1))
        for orientation in D4:
            turned = np.ascontiguousarray(orient(picture(1), orientation, (0, 1)))
            assert judge.reason(tile(), turned).startswith("near-duplicate: of 000007 by 1.00")
        assert judge.reason(tile(), picture(2)) == ""

    def test_of_an_oblong_tile_keep_its_shape(self, means: Means) -> None:
        judge = Judge(plan(near_duplicates=0.99), "cpu")
        wide = picture(1)[:48]
        judge.remember(tile(), wide)
        assert judge.reason(tile(), np.ascontiguousarray(wide[::-1])).startswith("near-duplicate")
        assert judge.reason(tile(), picture(2)[:48]) == ""

    def test_are_not_asked_after_where_the_plan_says_so(self, means: Means) -> None:
        judge = Judge(plan(), "cpu")
        judge.remember(tile(), picture(1))
        assert judge.reason(tile(), picture(1)) == ""
        assert judge.network_note == ""


class TestTheMargin:
    def coloured(self, *colour: int) -> np.ndarray:
        shaded = picture().mean(2, keepdims=True) / 4
        return (shaded + np.array(colour) * 0.7).astype(np.uint8)

    def test_keeps_what_the_network_names_rightly(self, means: Means) -> None:
        judge = Judge(plan(margin=0.0), "cpu")
        assert judge.reason(tile("forest land"), self.coloured(40, 200, 40)) == ""
        assert judge.reason(tile("Farmland"), self.coloured(40, 200, 40)).startswith("class: ForestLand by ")
        assert judge.reason(tile("Farmland"), self.coloured(200, 40, 40)) == ""

    def test_may_ask_for_more_than_the_likeliest(self, means: Means) -> None:
        nearly = self.coloured(110, 120, 40)
        assert Judge(plan(margin=0.0), "cpu").reason(tile("forest land"), nearly) == ""
        said = Judge(plan(margin=0.9), "cpu").reason(tile("forest land"), nearly)
        assert re.fullmatch(r"class: ahead of farmland by 0\.\d\d only, more than 0\.90 is wanted", said)

    def test_is_less_than_what_no_network_exceeds(self) -> None:
        with pytest.raises(ValidationError, match="less than 1"):
            plan(margin=1.0)

    def test_leaves_alone_a_class_that_the_network_does_not_know(self, means: Means) -> None:
        judge = Judge(plan(margin=0.0), "cpu")
        assert judge.unjudged == ["snow"]
        assert judge.reason(tile("snow"), self.coloured(40, 200, 40)) == ""

    def test_takes_the_classes_that_a_plan_accepts(self, means: Means) -> None:
        rows = [{"label": "green", "count": 1, "prompts": ["a"], "accept": ["forest-land", "Farmland"]}]
        told = Plan.model_validate({"classes": rows, "filters": {"margin": 0.0}})
        assert accepted_classes(told, means.network()) == {"green": [0, 1]}

    def test_needs_a_network_that_can_tell_classes(self, means: Means) -> None:
        means.classes = ()
        with pytest.raises(UsageError, match="cannot tell classes apart"):
            Judge(plan(margin=0.0), "cpu")

    def test_needs_classes_that_the_network_knows(self, means: Means) -> None:
        with pytest.raises(UsageError, match="knows none of the plan's classes"):
            Judge(plan(("snow", "ice"), margin=0.0), "cpu")
        rows = [{"label": "green", "count": 1, "prompts": ["a"], "accept": ["Farmlnd"]}]
        with pytest.raises(UsageError, match="Did you mean farmland"):
            Judge(Plan.model_validate({"classes": rows, "filters": {"margin": 0.0}}), "cpu")


def test_classes_whose_tiles_are_each_others_nearest_are_named(means: Means) -> None:
    judge = Judge(plan(("a", "b", "c"), near_duplicates=0.9999), "cpu")
    for n in range(6):
        judge.remember(tile("a", n), picture(n))
        judge.remember(tile("b", 10 + n), picture(n) + np.uint8(1))
        judge.remember(tile("c", 20 + n), 255 - picture(100) // 2 - np.uint8(n))
    assert judge.confusable() == [{"of": "a", "to": "b", "share": 1.0}, {"of": "b", "to": "a", "share": 1.0}]


def test_the_shipped_network_names_real_looking_classes(shared_data: object) -> None:
    """Farmland and forest of AID, as a plan would have them judged."""
    from pathlib import Path

    from studio.images import fit_square, open_picture

    folder = Path(str(shared_data)) / "aid_sample"
    judge = Judge(plan(("Forest", "Beach"), margin=0.0), "cpu")
    right = wrong = 0
    for label, other in (("Forest", "Beach"), ("Beach", "Forest")):
        for path in sorted((folder / label).glob("*.jpg"))[:5]:
            array = np.asarray(fit_square(open_picture(path), 64))
            right += judge.reason(tile(label), array) == ""
            wrong += judge.reason(tile(other), array) == ""
    assert right >= 8
    assert wrong == 0
