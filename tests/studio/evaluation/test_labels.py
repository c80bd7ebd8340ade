import pytest

from studio.evaluation.labels import class_of

CLASSES = ("BareLand", "Water Body", "residential", "dense residential", "snow_ice")


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({"label": "BareLand"}, "BareLand"),
        ({"label": "bare-land"}, "BareLand"),
        ({"label": "Snow / Ice"}, "snow_ice"),
        ({"label": "airport", "prompt": "bare land"}, None),
        ({"prompt": "A satellite image of Bare Land, from above"}, "BareLand"),
        ({"prompt": "a dense residential area"}, "dense residential"),
        ({"prompt": "a residential area"}, "residential"),
        ({"prompt": "underwater bodybuilding"}, None),
        ({"prompt": "a water body"}, "Water Body"),
        ({"prompt": "water body beside water body"}, "Water Body"),
        ({}, None),
    ],
)
def test_a_tile_is_of_its_label_or_of_the_class_that_its_prompt_names(
    recipe: dict[str, str], expected: str | None
) -> None:
    assert class_of(recipe, CLASSES) == expected


def test_two_classes_of_equally_long_names_decide_nothing() -> None:
    assert class_of({"prompt": "a road by a farm"}, ("road", "farm")) is None
