import random
import re

import pytest

from studio.datasets.rsicd import CLASS_NAMES
from studio.datasets.terrain import CLASSES
from studio.errors import UsageError
from studio.prompts.grammar import classes_of, compose, compose_plainly, key_of, load_grammar, readable

# Said in words and apart from the grammar's tags, so that a tag left out shows.
NEVER_TOGETHER = (
    (r"mangrove|rainforest|tropical|palm|tea plantation", r"snow|\bice\b|winter|Arctic|Svalbard|Greenland|Alps|Sahel"),
    (r"desert|(crescent|parallel|star-shaped) dunes", r"snow|winter|rains|Alps|Rhine|Arctic|Amazon|North Sea|autumn"),
    (r"\bice\b|iceberg|glacier|snow", r"Sahel|Caribbean|Borneo|Amazon|Mekong|California|Spain|summer|dry season"),
    (r"10 m", r"\bcars?\b|planes|boats|umbrellas|aerial|orthophoto|trucks|pools"),
    (r"wheat|harvested", r"spring|snow|Arctic|Greenland|Svalbard|rains"),
    (r"\bgreen\b|golden", r"snow|Arctic|dry season"),
    (r"\bsea\b|beach|\bport\b|icebergs", r"Sahel|Gobi|Midwest|Alps|Andes|Rocky Mountains|Poland"),
    (r"autumn (colours|foliage)", r"spring|summer|Sahel|Borneo|Arctic|Caribbean|Amazon|Mekong"),
    (r"houses|stadium|airport|city|school", r"Arctic|Greenland|Svalbard"),
    (r"Rhine|Alps|Midwest|Poland", r"dry season|paddies|turquoise|coral|olive grove"),
)


@pytest.mark.parametrize("label", [*CLASSES, *CLASSES.values(), *CLASS_NAMES, *CLASS_NAMES.values()])
def test_every_class_of_land_cover_and_rsicd_is_known_however_it_is_written(label: str) -> None:
    found = load_grammar().find(label)
    assert found is not None
    assert len(found.scenes) >= 4
    assert len(found.details) >= 5


@pytest.mark.parametrize("label", ["BareLand", "StorageTanks", "Snow/Ice", "Bare ground", "Water body", "AnnualCrop"])
def test_names_of_other_data_sets_are_known(label: str) -> None:
    assert load_grammar().find(label) is not None


def test_no_two_classes_are_written_alike() -> None:
    grammar = load_grammar()
    assert len(grammar.classes) == 36
    assert len({key_of(label) for label in grammar.classes}) == 36
    assert set(grammar.aliases.values()) <= set(grammar.classes)


def test_every_ban_names_tags_that_are_used() -> None:
    grammar = load_grammar()
    phrases = [phrase for one in grammar.classes.values() for phrase in (*one.scenes, *one.details)]
    phrases += [phrase for slot in grammar.slots.values() for phrase in slot]
    used = {tag for phrase in phrases for tag in phrase.tags}
    assert used == {tag for ban in grammar.bans for tag in ban}


@pytest.fixture(scope="module")
def sample() -> list[tuple[str, str]]:
    rng = random.Random(7)
    labels = list(load_grammar().classes)
    return [(label, compose(label, rng).text) for _ in range(400) for label in labels]


@pytest.mark.parametrize(("one", "other"), NEVER_TOGETHER)
def test_things_that_do_not_go_together_never_meet(sample: list[tuple[str, str]], one: str, other: str) -> None:
    assert [text for _, text in sample if re.search(one, text) and re.search(other, text)] == []


def test_every_prompt_speaks_of_its_class_and_its_view(sample: list[tuple[str, str]]) -> None:
    classes = load_grammar().classes
    for label, text in sample:
        assert re.search("|".join(rf"\b{word}" for word in classes[label].words), text), text
        assert re.match("an? (nadir |top-down )?(satellite|aerial) (image|view) of|an orthophoto of", text), text


def test_prompts_are_plain_sentences(sample: list[tuple[str, str]]) -> None:
    for _, text in sample:
        assert re.fullmatch(r"[A-Za-z0-9 ,.'-]+", text), text
        assert not re.search(r"  |\ba [aeio]|\ban [^aeiou]", text), text
        assert 5 <= len(text.split()) <= 40


def test_prompts_seldom_repeat(sample: list[tuple[str, str]]) -> None:
    assert len({text for _, text in sample}) > 0.85 * len(sample)


def test_the_same_seed_makes_the_same_prompts() -> None:
    assert compose("beach", random.Random(3)) == compose("beach", random.Random(3))


def test_an_unknown_class_offers_the_nearest() -> None:
    with pytest.raises(UsageError, match="beach"):
        compose("beech", random.Random(0))


def test_a_class_of_ones_own_is_named_plainly() -> None:
    composed = compose_plainly("SolarFarm", random.Random(0))
    assert "of solar farm" in composed.text
    assert readable("solar_farm-2") == "solar farm 2"


@pytest.mark.parametrize(
    ("text", "label"),
    [("white waves on sand", "beach"), ("many planes", "airport"), ("vineyards", "cultivated-vegetation")],
)
def test_words_lead_to_their_class(text: str, label: str) -> None:
    assert label in classes_of(text)


def test_other_words_lead_to_no_class() -> None:
    assert classes_of("quantum chromodynamics") == []


@pytest.mark.soak
def test_no_banned_pair_in_100_000_prompts() -> None:
    grammar = load_grammar()
    rng, labels = random.Random(11), list(load_grammar().classes)
    for _ in range(100_000):
        phrases = compose(rng.choice(labels), rng).phrases
        for index, phrase in enumerate(phrases):
            for other in phrases[index + 1 :]:
                assert not grammar.banned(phrase.tags, other.tags)
