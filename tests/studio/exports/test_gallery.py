import base64
import io
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from studio import collections
from studio.display import shown
from studio.images import open_picture
from studio.workspace import Workspace
from tests.hostile import PAYLOADS
from tests.studio.exports.conftest import CLASSES, make_batch, pixels

TAGS = {
    "html", "head", "meta", "title", "style", "body", "header", "h1", "p", "main", "figure", "a", "img", "figcaption",
    "br", "small", "details", "summary", "pre", "footer",
}  # fmt: skip
ATTRIBUTES = {"lang", "charset", "http-equiv", "content", "name", "href", "src", "alt", "class", "loading"}
META_NAMES = {"referrer", "viewport"}


class Page(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attributes]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def values(self, tag: str, name: str) -> list[str]:
        return [value for one, attribute, value in self.attributes if (one, attribute) == (tag, name)]


def page_of(folder: Path) -> Page:
    return Page((folder / "index.html").read_text("utf-8"))


def test_a_gallery_shows_every_tile_with_its_prompt(workspace: Workspace, tmp_path: Path, run_export: Any) -> None:
    make_batch(workspace, "lulc", ["islands", "canyon", "ice floes"], CLASSES)
    run_export("lulc", "gallery", tmp_path / "out")
    page = page_of(tmp_path / "out")
    assert page.values("img", "alt") == ["islands", "canyon", "ice floes"]
    assert page.values("a", "href") == [f"images/{number:06d}.png" for number in (1, 2, 3)]
    for number, source in enumerate(page.values("img", "src"), start=1):
        kind, _, data = source.partition(",")
        assert kind == "data:image/png;base64"
        shown_tile = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
        assert np.array_equal(shown_tile, pixels(number))
        assert (tmp_path / "out" / f"images/{number:06d}.png").is_file()


def test_a_gallery_forbids_all_but_its_pictures_and_style(
    workspace: Workspace, tmp_path: Path, run_export: Any
) -> None:
    make_batch(workspace, "lulc", ["islands"])
    run_export("lulc", "gallery", tmp_path / "out")
    policy = page_of(tmp_path / "out").values("meta", "content")[0]
    assert policy.startswith("default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'")


def test_large_tiles_are_shown_small_and_linked_in_full(workspace: Workspace, tmp_path: Path, run_export: Any) -> None:
    make_batch(workspace, "lulc", ["islands"], size_px=600)
    run_export("lulc", "gallery", tmp_path / "out")
    data = page_of(tmp_path / "out").values("img", "src")[0].partition(",")[2]
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (360, 360)
    assert open_picture(tmp_path / "out" / "images" / "000001.png").size == (600, 600)


def test_hostile_text_stays_text(workspace: Workspace, tmp_path: Path, run_export: Any) -> None:
    tiles = make_batch(workspace, "hostile", PAYLOADS, PAYLOADS, size_px=8) / "tiles"
    collections.save(
        workspace,
        "hostile-collection",
        collections.Collection(
            title=PAYLOADS[1],
            description=PAYLOADS[14],
            tiles=tuple(
                collections.CollectedTile(file=f"batches/hostile/tiles/{path.name}", title=shown(payload))
                for path, payload in zip(sorted(tiles.iterdir()), PAYLOADS, strict=True)
            ),
        ),
    )
    for name in ("hostile", "hostile-collection"):
        run_export(name, "gallery", tmp_path / name)
        page = page_of(tmp_path / name)
        assert set(page.tags) <= TAGS
        assert {name for _, name, _ in page.attributes} <= ATTRIBUTES
        assert set(page.values("meta", "name")) == META_NAMES
        assert page.tags.count("meta") == 4
        assert page.tags.count("style") == page.tags.count("title") == 1
        assert page.values("a", "href") == [f"images/{number:06d}.png" for number in range(1, len(PAYLOADS) + 1)]
        assert all(source.startswith("data:image/png;base64,") for source in page.values("img", "src"))
        text = (tmp_path / name / "index.html").read_text("utf-8")
        assert text == shown(text)
    assert {path.name for path in tmp_path.iterdir()} == {"workspace", "hostile", "hostile-collection"}


def test_every_hostile_prompt_can_be_read_on_the_page(workspace: Workspace, tmp_path: Path, run_export: Any) -> None:
    make_batch(workspace, "hostile", PAYLOADS, size_px=8)
    run_export("hostile", "gallery", tmp_path / "out")
    texts = "".join(page_of(tmp_path / "out").texts)
    for payload in PAYLOADS:
        assert shown(payload).replace("\r\n", "\n") in texts
