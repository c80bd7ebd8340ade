from pathlib import Path

import pytest

from studio.errors import SettingsError, UsageError
from studio.prompts.book import Book, Negative, Prompt, add_prompts, books, framed, load_book, open_book, save_book
from studio.prompts.choices import expand
from studio.workspace import TEMPLATE, Workspace
from tests.hostile import PAYLOADS

# Figures 4 to 10 of the paper, and its cues.
SEVEN = {
    "bare-land": "barren landscape of a rocky desert canyon",
    "crop-land": "vineyards and orchards in a wine-producing region",
    "cultivated-vegetation": "golden hues of ripe wheat fields ready for harvest",
    "natural-vegetation": "mixed oak-hickory forest with vibrant autumn foliage",
    "snow-ice": "ice floes drifting in the Arctic Ocean under the northern lights",
    "water-body": "cluster of small islands surrounded by shallow turquoise waters",
    "woody-vegetation": "coastal mangrove swamp with meandering tidal creeks",
}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "prompts").mkdir()
    return Workspace(tmp_path)


def test_the_bundled_book_holds_the_papers_prompts_word_for_word() -> None:
    book = load_book(TEMPLATE / "prompts" / "land-cover.toml")
    assert {one.label: one.prompt for one in book.prompts[:7]} == SEVEN
    assert all("remote-diffusion" in one.tags for one in book.prompts[:7])
    texts = {one.name: one.text for one in book.negatives}
    assert texts["paper"] == "wrapped, repeating, blurry, deformed, low-quality"
    assert texts["code"].startswith("weird colors, low quality, jpeg artifacts, lowres, grainy, deformed structures,")
    suffix = next(one for one in book.templates if one.name == "high-resolution")
    assert framed("a river", suffix) == "a river , 8k, best quality, high-resolution"


def test_every_bundled_prompt_and_template_can_be_written_out() -> None:
    book = load_book(TEMPLATE / "prompts" / "land-cover.toml")
    for one in book.prompts:
        for template in book.templates:
            assert expand(framed(one.prompt, template))


def test_a_new_workspace_shows_the_bundled_books(tmp_path: Path) -> None:
    assert "land-cover" in books(Workspace(tmp_path / "absent"))


def test_prompts_are_added_to_a_book_once(workspace: Workspace) -> None:
    add_prompts(workspace, [Prompt(prompt="a river"), Prompt(prompt="a lake", label="water-body")])
    book = add_prompts(workspace, [Prompt(prompt="a river"), Prompt(prompt="a river", negative="blurry")])
    assert [one.prompt for one in book.prompts] == ["a river", "a lake", "a river"]
    assert open_book(workspace, "my-prompts") == book


def test_adding_a_prompt_keeps_a_persons_comments(workspace: Workspace) -> None:
    path = workspace.prompts / "rivers.toml"
    written = '# mine\ntitle = "Rivers"  # of my youth\n\n[[prompts]]\n# where I grew up\nprompt = "the Elbe"  # long\n'
    path.write_text(written)
    add_prompts(workspace, [Prompt(prompt="the Oder")], "rivers")
    assert path.read_text().startswith(written)
    assert [one.prompt for one in open_book(workspace, "rivers").prompts] == ["the Elbe", "the Oder"]


def test_a_book_written_by_the_studio_or_on_one_line_grows_too(workspace: Workspace) -> None:
    save_book(workspace, "saved", Book(title="Saved", prompts=(Prompt(prompt="a river"),)))
    save_book(workspace, "empty", Book())
    (workspace.prompts / "line.toml").write_text('prompts = [{prompt = "a river"}]\n[[templates]]\nname = "x"\n')
    for name, count in (("saved", 2), ("empty", 1), ("line", 2)):
        assert add_prompts(workspace, [Prompt(prompt="a lake")], name).prompts[count - 1 :] == (
            Prompt(prompt="a lake"),
        )
        assert len(open_book(workspace, name).prompts) == count


def test_hostile_prompts_come_back_as_they_were(workspace: Workspace) -> None:
    prompts = tuple(Prompt(prompt=text, negative=text, label=text, tags=(text,)) for text in PAYLOADS)
    negatives = tuple(Negative(name=text, text=text) for text in PAYLOADS)
    save_book(workspace, "hostile", Book(title=PAYLOADS[0], prompts=prompts, negatives=negatives))
    book = open_book(workspace, "hostile")
    assert [one.prompt for one in book.prompts] == [
        text.encode("utf-8", "backslashreplace").decode() for text in PAYLOADS
    ]


@pytest.mark.parametrize("name", ["../escape", "a/b", "", ".hidden", "A"])
def test_a_book_cannot_lie_elsewhere(workspace: Workspace, name: str) -> None:
    with pytest.raises(UsageError):
        add_prompts(workspace, [Prompt(prompt="a river")], name)
    assert list(workspace.root.rglob("*.toml")) == []


def test_every_fault_of_a_book_is_named(workspace: Workspace) -> None:
    path = workspace.prompts / "bad.toml"
    path.write_text('titel = "x"\n[[prompts]]\nname = "no prompt"\n[[negatives]]\nname = "n"\ntext = 3\n')
    with pytest.raises(SettingsError) as refusal:
        load_book(path)
    assert {fault[0] for fault in refusal.value.faults} == {"titel", "prompts.0.prompt", "negatives.0.text"}


def test_an_unknown_book_offers_the_nearest(workspace: Workspace) -> None:
    save_book(workspace, "rivers", Book())
    with pytest.raises(UsageError, match="prompt book named river"):
        open_book(workspace, "river")
