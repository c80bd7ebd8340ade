import re
from pathlib import Path

import pytest
from PIL import Image

from screens.pictures import Wanted, encode
from screens.shell import StudioApp
from screens.widgets import drawing
from screens.widgets.loss_plot import thinned, ticks
from screens.widgets.picture import Picture
from screens.widgets.picture_grid import shape
from tests.screens.conftest import looked, until


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    image = Image.radial_gradient("L").resize((64, 64)).convert("RGB")
    image.putpixel((0, 0), (255, 0, 0))
    image.save(path)
    return path


def wanted(path: Path, protocol: str = "sixel", crop: tuple[int, int, int, int] = (0, 0, 10, 5)) -> Wanted:
    return Wanted(path, 0, 10, 5, crop, (9, 18), (0, 0, 0), protocol)  # type: ignore[arg-type]


def test_each_colour_register_is_selected_after_it_is_defined(picture: Path) -> None:
    sixels = drawing.sixels(wanted(picture))
    defined = re.findall(r"#(\d+);2;\d+;\d+;\d+(#\d+)?", sixels)
    assert defined
    assert all(selected == f"#{register}" for register, selected in defined)


def test_sixels_are_as_large_as_the_cells_in_view(picture: Path) -> None:
    assert '"1;1;90;90' in drawing.sixels(wanted(picture))
    assert '"1;1;36;18' in drawing.sixels(wanted(picture, crop=(2, 1, 4, 1)))


def test_half_cells_fill_the_cells_in_view(picture: Path) -> None:
    strips = drawing.half_cells(wanted(picture, "halfcell", (1, 1, 8, 3)))
    assert [strip.cell_length for strip in strips] == [8, 8, 8]


def test_what_cannot_be_drawn_is_told_in_its_place(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(Exception, match="broken"):
        encode(wanted(broken, "halfcell"))
    strips = drawing.words(wanted(broken, "halfcell"), "[/bold]\x1b]52;c;eA==\x07")
    assert "\x1b" not in "".join(strip.text for strip in strips)


async def test_the_cursor_stays_on_the_last_line_of_a_sixel_picture(app: StudioApp, picture: Path) -> None:
    async with app.run_test(size=(120, 36)) as pilot:
        await looked(pilot)
        await pilot.press("3")
        app.pictures.protocol = "sixel"
        shown = Picture(picture)
        shown.styles.width, shown.styles.height = 10, 5
        await app.screen.mount(shown, before=0)
        lines: list[str] = []

        def is_drawn() -> bool:
            strips = shown.render_lines(shown.size.region)
            lines[:] = ["".join(segment.text for segment in strip) for strip in strips]
            return bool(lines) and "\x1bP" in lines[-1]

        await until(pilot, is_drawn)
        assert not any("\x1bP" in line for line in lines[:-1])
        moves = [(int(y), int(x)) for y, x in re.findall(r"\x1b\[(\d+);(\d+)H", lines[-1])]
        assert moves[0] == (shown.region.y + 1, shown.region.x + 1)
        assert moves[-1] == (shown.region.y + shown.region.height, shown.region.x + shown.region.width + 1)


def test_a_long_curve_keeps_its_extremes_with_two_points_a_column() -> None:
    import numpy as np

    steps = np.arange(10_000.0)
    values = np.sin(steps / 50)
    values[1234] = 9.0
    few_steps, few_values = thinned(steps, values, 100)
    assert len(few_steps) <= 200
    assert few_values.max() == 9.0
    assert (np.diff(few_steps) > 0).all()


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0, 4000, [0, 1000, 2000, 3000, 4000]), (0.1, 0.4, [0.1, 0.2, 0.3, 0.4])]
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high, 4) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("count", "box", "expected"), [(3, (90, 10), (3, 1)), (4, (30, 30), (2, 2)), (1, (40, 10), (1, 1))]
)
def test_pictures_are_laid_out_as_large_as_they_fit(
    count: int, box: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert shape(count, *box) == expected
