import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from studio import files, images
from studio.errors import UsageError

RECIPE = {"prompt": "ice floes \udcff \x1b]52;c;x\x07 <b>[/bold]", "seed": 7, "model": "starter", "steps": 20}


def noise(width: int = 20, height: int = 10) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_tile_keeps_its_pixels_and_its_whole_recipe(tmp_path: Path) -> None:
    path = tmp_path / "tiles" / "000001.png"
    sha256 = images.save_tile(path, noise(), RECIPE)
    assert sha256 == files.sha256_of(path)
    assert images.read_recipe(path) == RECIPE
    assert np.array_equal(np.asarray(images.open_picture(path)), noise())
    assert not list(path.parent.glob(".tmp-*"))


def test_the_same_tile_has_the_same_bytes_each_time(tmp_path: Path) -> None:
    sums = {images.save_tile(tmp_path / name, noise(), RECIPE) for name in ("a.png", "b.png")}
    assert len(sums) == 1


def test_the_description_of_a_tile_holds_no_control_characters(tmp_path: Path) -> None:
    images.save_tile(tmp_path / "a.png", noise(), RECIPE)
    with Image.open(tmp_path / "a.png") as image:
        assert "\x1b" not in image.info["Description"]
        assert "ice floes" in image.info["Description"]


def test_a_recipe_behind_the_pixels_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    text = PngImagePlugin.PngInfo()
    text.add_text("rs-studio", json.dumps({"seed": 3}), zip=True)
    Image.fromarray(noise()).save(path, pnginfo=text)
    data = path.read_bytes()
    start = data.index(b"zTXt") - 4
    length = int.from_bytes(data[start : start + 4]) + 12
    chunk, end = data[start : start + length], data.index(b"IEND") - 4
    path.write_bytes(data[:start] + data[start + length : end] + chunk + data[end:])
    assert images.read_recipe(path) == {"seed": 3}


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_picture_is_refused_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    for function in (images.open_picture, images.read_recipe):
        with pytest.raises(UsageError, match="a picture"):
            function(tmp_path / "a.png")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file"):
        images.open_picture(tmp_path / "absent.png")


def test_a_picture_without_a_recipe_is_refused(tmp_path: Path) -> None:
    for name, text in (("plain.png", None), ("odd.png", "[1]"), ("broken.png", "{")):
        info = PngImagePlugin.PngInfo()
        if text:
            info.add_text("rs-studio", text)
        Image.fromarray(noise()).save(tmp_path / name, pnginfo=info)
        with pytest.raises(UsageError, match="no recipe"):
            images.read_recipe(tmp_path / name)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_a_truncated_picture_is_refused_at_every_length(tmp_path: Path, suffix: str) -> None:
    whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    Image.fromarray(noise(40, 40)).save(whole)
    data = whole.read_bytes()
    pixels = np.asarray(images.open_picture(whole))
    for length in range(0, len(data), max(1, len(data) // 40)):
        cut.write_bytes(data[:length])
        with suppress(UsageError):  # a decoder may forgive a lost trailer, but then every pixel must be there
            assert np.array_equal(np.asarray(images.open_picture(cut)), pixels)


def test_flipped_bits_never_crash_a_reader(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for suffix in ("jpg", "png", "tif"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(noise(30, 30)).save(path)
        data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
        for _ in range(60):
            broken = data.copy()
            broken[rng.integers(0, len(broken), 4)] ^= np.uint8(1 << rng.integers(0, 8))
            path.write_bytes(broken.tobytes())
            for function in (images.open_picture, images.read_recipe):
                with suppress(UsageError):
                    function(path)


def test_a_picture_bomb_is_refused_at_its_header(tmp_path: Path) -> None:
    Image.new("1", (9_500, 9_400)).save(tmp_path / "large.png")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    with pytest.raises(UsageError, match="pixels"):
        images.open_picture(tmp_path / "large.png")
    with pytest.raises(UsageError, match="pixels"):
        images.open_picture(tmp_path / "bomb.png")


def test_every_kind_of_picture_opens_in_rgb(tmp_path: Path) -> None:
    rgb = Image.fromarray(noise())
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        source = rgb.convert("L") if mode == "I;16" else rgb
        source.convert(mode).save(tmp_path / "a.png")
        assert images.open_picture(tmp_path / "a.png").mode == "RGB"
    for mode in ("I", "F", "CMYK", "YCbCr"):
        (rgb.convert("L") if mode in "IF" else rgb).convert(mode).save(tmp_path / "a.tif")
        assert images.open_picture(tmp_path / "a.tif").mode == "RGB"


def test_transparent_pixels_become_black() -> None:
    picture = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert images.to_rgb(picture).getpixel((0, 0)) == (0, 0, 0)


def test_sixteen_bits_are_stretched_not_clipped() -> None:
    picture = Image.fromarray(np.linspace(1000, 3000, 64 * 64).reshape(64, 64).astype(np.uint16))
    values = np.asarray(images.to_rgb(picture))
    assert values.min() == 0
    assert values.max() == 255
    assert 100 < values.mean() < 155


def test_a_turned_photograph_is_opened_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(20, 10)).save(tmp_path / "a.jpg", exif=exif)
    assert images.open_picture(tmp_path / "a.jpg").size == (10, 20)


def test_a_thumbnail_keeps_the_shape(tmp_path: Path) -> None:
    Image.fromarray(noise(200, 100)).save(tmp_path / "a.jpg")
    assert images.thumbnail(tmp_path / "a.jpg", 50).size == (50, 25)


@pytest.mark.parametrize("size", [(64, 64), (100, 64), (64, 100), (224, 224), (33, 17), (1, 1)])
def test_any_picture_fits_a_square(size: tuple[int, int]) -> None:
    assert images.fit_square(Image.new("RGB", size), 64).size == (64, 64)


def test_fitting_a_square_that_fits_changes_nothing() -> None:
    picture = Image.fromarray(noise(64, 64))
    assert images.fit_square(picture, 64).tobytes() == picture.tobytes()


def test_fitting_a_square_keeps_the_centre() -> None:
    wide = Image.new("RGB", (192, 64))
    wide.paste((255, 255, 255), (64, 0, 128, 64))
    assert np.asarray(images.fit_square(wide, 64)).min() == 255


def test_a_contact_sheet_holds_every_picture_once() -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0), (9, 9, 200)]
    tiles = [Image.new("RGB", (32, 32), colour) for colour in colours]
    sheet = images.contact_sheet(tiles, 3, ["beach"] * 5, "Deltas")
    counts = {colour: count for count, colour in sheet.getcolors(100_000) or []}
    for colour in colours:
        assert counts[colour] >= 32 * 32
    assert sheet.width == 4 + 3 * 36


def test_a_contact_sheet_takes_any_label_and_picture_size() -> None:
    tiles = [Image.new("RGB", (10 + 30 * n, 50 - 10 * n)) for n in range(4)]
    assert images.contact_sheet(tiles, 2, ["\x1b[31m\u202e[/bold]\udcff 地 " * 30, "", "a", "b"]).width > 0


def test_a_contact_sheet_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="no pictures"):
        images.contact_sheet([], 4)
