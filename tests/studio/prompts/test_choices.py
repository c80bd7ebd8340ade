import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.errors import UsageError
from studio.prompts.choices import count_choices, expand


@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        ("a river", ["a river"]),
        ("", [""]),
        ("two  spaces | stay", ["two  spaces | stay"]),
        ("a {red|green} roof", ["a red roof", "a green roof"]),
        ("{a|b} {c|d}", ["a c", "a d", "b c", "b d"]),
        ("a {{dark|light} green|blue} lake", ["a dark green lake", "a light green lake", "a blue lake"]),
        ("a {|wide }river", ["a river", "a wide river"]),
        ("a {wide} river", ["a wide river"]),
        ("a {} river", ["a river"]),
        ("a {b|b} c", ["a b c"]),
        (r"a \{b\|c\} \d", [r"a {b|c} \d"]),
        (r"{a\|b|c}", ["a|b", "c"]),
    ],
)
def test_choices_are_written_out(text: str, prompts: list[str]) -> None:
    assert expand(text) == prompts


@pytest.mark.parametrize("text", ["{", "a {b|c", "a {b|{c}", "}", "a } b", "{a}}", "{" * 5000, "{a|" * 5000])
def test_a_brace_without_its_other_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        expand(text)


def test_the_place_of_an_open_brace_is_named() -> None:
    with pytest.raises(UsageError, match="at character 3"):
        expand("a {b|c")


def test_too_many_prompts_are_refused_before_they_are_made() -> None:
    with pytest.raises(UsageError, match="stands for 10,000,000,000"):
        expand("{0|1|2|3|4|5|6|7|8|9}" * 10)
    assert count_choices("{0|1|2|3|4|5|6|7|8|9}" * 10) == 10**10


def test_choices_may_not_be_nested_without_end() -> None:
    with pytest.raises(UsageError, match="deep"):
        expand("{" * 21 + "}" * 21)


@given(st.text(alphabet="ab {|}\\", max_size=30))
def test_any_text_gives_prompts_or_one_sentence(text: str) -> None:
    try:
        prompts = expand(text, limit=200)
    except UsageError:
        return
    assert 1 <= len(prompts) <= count_choices(text)


@given(st.text(max_size=40).filter(lambda text: not set("{}\\") & set(text)))
def test_text_without_braces_stays_as_it_is(text: str) -> None:
    assert expand(text) == [text]
