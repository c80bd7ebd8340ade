"""Every mode of generation: what it makes, what it leaves alone, and that its tiles can be made again."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from studio import files, requests
from studio.errors import UsageError
from studio.events import Event, Phase, Warned
from studio.generation.batch_size import ON_CPU, compiling_repays, planned_batch, recalled_batch
from studio.generation.canvas import decoded, encoded, enlarged
from studio.generation.choosing import chosen_sampling
from studio.generation.generate import reproduce
from studio.generation.inputs import fitted_pixels, keep_input, mask_of, sized_as_its_input
from studio.generation.making import TileMaker
from studio.generation.plans import PromptLine, plan_tiles
from studio.generation.provenance import Sampling
from studio.generation.remarks import fitting_remarks
from studio.generation.samplers import sample, tile_noise
from studio.generation.seamless import going_round
from studio.images import open_picture, png_bytes, read_recipe, save_tile
from studio.models.load import DiffusionModel, load_model
from studio.models.registry import ModelRef
from studio.settings import GenerateSettings, GridSettings
from studio.workspace import Workspace, make_workspace
from tests.studio.command_line import speaker
from tests.studio.training_runs import run

TILES = plan_tiles([PromptLine("one {river|forest}", "fog")], 3, seed=40)


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("modes") / "workspace")


@pytest.fixture(scope="module")
def model(tiny_flow: Path) -> DiffusionModel:
    return load_model(ModelRef("tiny", tiny_flow), "cpu")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A real picture, of another shape than the model's tiles: 48 × 40, in blocks."""
    blocks = np.random.default_rng(5).integers(0, 256, (10, 12, 3), dtype=np.uint8)
    Image.fromarray(blocks.repeat(4, 0).repeat(4, 1)).save(tmp_path / "real.png")
    return tmp_path / "real.png"


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """As large as the picture, and white in its right half."""
    Image.fromarray(np.repeat([[0] * 24 + [255] * 24], 40, axis=0).astype(np.uint8)).save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def made(workspace: Workspace, tiny: Path, name: str, count: int = 3, **told: Any) -> tuple[Any, list[Event], Path]:
    values = {"model": str(tiny), "batch": 2, "steps": 2} | told
    job = requests.generate_job(workspace, GenerateSettings.model_validate(values), TILES[:count], name)
    return *run(job), job.folder.path


def pixels_of(tile: Path) -> np.ndarray:
    return np.asarray(open_picture(tile))


MODES: dict[str, dict[str, Any]] = {
    "ancestral": {"sampler": "euler-a", "steps": 3},
    "stochastic": {"sampler": "dpm++2m-sde-karras", "steps": 3},
    "rescaled": {"rescale": 0.7},
    "bf16": {"precision": "bf16"},
    "seamless": {"seamless": True},
    "scene": {"scene": True, "width_px": 64, "height_px": 48},
    "endless-scene": {"scene": True, "width_px": 64, "height_px": 32, "seamless": True},
    "enlarged": {"upscale": 2, "steps": 4},
    "from-a-picture": {"init": True, "steps": 4},
    "inpainted": {"init": True, "mask": True, "steps": 3},
    "enlarged-picture": {"init": True, "upscale": 2, "steps": 4},
}


@pytest.mark.parametrize("mode", MODES)
def test_a_tile_of_every_mode_is_made_again_to_the_last_bit(
    mode: str, workspace: Workspace, tiny_flow: Path, picture: Path, mask: Path
) -> None:
    paths = {"init": str(picture), "mask": str(mask)}
    told = {key: paths[key] if value is True and key in paths else value for key, value in MODES[mode].items()}
    finished, _, folder = made(workspace, tiny_flow, mode, count=2, **told)
    assert finished.outcome == "completed", finished.message
    picture.unlink()  # the batch keeps its own copy
    again = reproduce(workspace, folder / "tiles/000002.png", "cpu")
    assert again == {"identical": True, "differing_pixels": 0, "reasons": []}
    assert files.manifest_faults(folder) == []


def test_the_sidecar_says_what_is_inside_the_tiles(workspace: Workspace, tiny_flow: Path) -> None:
    _, _, folder = made(workspace, tiny_flow, "beside")
    records = list(files.read_records(folder / "tiles.jsonl"))
    assert [record.pop("file") for record in records] == [f"tiles/{number:06d}.png" for number in (1, 2, 3)]
    for number, record in enumerate(records, 1):
        tile = folder / f"tiles/{number:06d}.png"
        assert record.pop("sha256") == files.sha256_of(tile)
        assert record == read_recipe(tile)


def test_when_pixels_differ_the_reasons_name_what_has_changed(
    workspace: Workspace, tiny_flow: Path, tmp_path: Path
) -> None:
    _, _, folder = made(workspace, tiny_flow, "aged")
    tile = folder / "tiles/000001.png"
    recipe = read_recipe(tile) | {"torch": "1.0", "diffusers": "0.1"}
    save_tile(tile, 255 - pixels_of(tile), recipe)
    again = reproduce(workspace, tile, "cpu")
    assert not again["identical"]
    changed, *others = again["reasons"]
    assert changed == "the file was changed after it was made"
    assert [reason.split(" is ")[0] for reason in others] == ["torch", "diffusers"]


@pytest.mark.parametrize("is_in_its_batch", [True, False])
def test_a_picture_that_was_touched_up_is_told_from_one_that_cannot_be_made(
    is_in_its_batch: bool, workspace: Workspace, tiny_flow: Path, tmp_path: Path
) -> None:
    _, _, folder = made(workspace, tiny_flow, f"touched-up-{is_in_its_batch:d}", 1)
    tile = folder / "tiles/000001.png"
    pixels, recipe = pixels_of(tile).copy(), read_recipe(tile)
    pixels[3, 4] ^= 1
    place = tile if is_in_its_batch else tmp_path / "000001.png"
    save_tile(place, pixels, recipe)
    again = reproduce(workspace, place, "cpu")
    assert (again["identical"], again["differing_pixels"]) == (False, 1)
    assert len(again["reasons"]) == 1
    assert "changed after it was made" in again["reasons"][0]


def test_a_recipe_of_an_older_version_is_followed_and_says_what_it_did_not_record(
    workspace: Workspace, tiny_flow: Path, tmp_path: Path
) -> None:
    _, _, folder = made(workspace, tiny_flow, "older", 1)
    tile = folder / "tiles/000001.png"
    since = ("transformers", "pillow", "device_name")
    older = {key: value for key, value in read_recipe(tile).items() if key not in since}
    save_tile(tmp_path / "same.png", pixels_of(tile), older)
    assert reproduce(workspace, tmp_path / "same.png", "cpu")["identical"]
    save_tile(tmp_path / "other.png", 255 - pixels_of(tile), older)
    reasons = reproduce(workspace, tmp_path / "other.png", "cpu")["reasons"]
    assert {reason.split(" is ")[0] for reason in reasons if "was not recorded" in reason} == set(since)


def test_a_tile_whose_recipe_was_stripped_is_made_again_from_the_one_beside_it(
    workspace: Workspace, tiny_flow: Path
) -> None:
    _, _, folder = made(workspace, tiny_flow, "stripped")
    tile = folder / "tiles/000002.png"
    Image.fromarray(pixels_of(tile)).save(tile)
    assert reproduce(workspace, tile, "cpu")["identical"]
    Image.fromarray(pixels_of(tile)).save(folder / "tiles/000009.png")
    with pytest.raises(UsageError, match="carries no recipe"):
        reproduce(workspace, folder / "tiles/000009.png", "cpu")


def test_reproduce_fails_where_pixels_differ(
    workspace: Workspace, tiny_flow: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    _, _, folder = made(workspace, tiny_flow, "told-apart", 1)
    tile, say = folder / "tiles/000001.png", speaker(capfd)
    assert say(workspace.root, "reproduce", tile).code == 0
    pixels = pixels_of(tile).copy()
    pixels[0, 0] ^= 1
    save_tile(tile, pixels, read_recipe(tile))
    answer = say(workspace.root, "reproduce", tile)
    assert (answer.code, answer.out) == (1, "1 pixel differs: the file was changed after it was made.\n")
    answer = say("--json", workspace.root, "reproduce", tile)
    assert (answer.code, answer.result["identical"], answer.result["differing_pixels"]) == (1, False, 1)


# ---- figures that are none


def test_figures_that_are_none_are_an_error_and_no_black_tile(
    workspace: Workspace, tiny_flow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studio.generation import making

    sampled = making.sample
    monkeypatch.setattr(making, "sample", lambda *args, **named: sampled(*args, **named) * float("nan"))
    finished, _, folder = made(workspace, tiny_flow, "no-figures")
    assert (finished.outcome, finished.exit_code) == ("failed", 1)
    assert finished.message == "The sampler gave no finite numbers."
    assert not list((folder / "tiles").iterdir())


# ---- seamless


def test_a_seamless_tile_knows_no_border(model: DiffusionModel) -> None:
    """The same noise moved round by some cells makes the same tile, moved round by as many."""
    text = model.embed(["one river"])
    noise = tile_noise(3, (4, 8, 8))

    def tile(noise: torch.Tensor) -> torch.Tensor:
        with going_round(model), torch.inference_mode():
            return model.decode(sample(model, text, text, noise, "dpm++2m", 3, 1.0)).float()

    # By as many cells as the network halves and doubles its size.
    assert (tile(noise.roll((2, 4), (2, 3))) - tile(noise).roll((8, 16), (2, 3))).abs().max() <= 1
    with torch.inference_mode():
        bordered = [model.decode(sample(model, text, text, one, "dpm++2m", 3, 1.0)).float() for one in
                    (noise.roll((2, 4), (2, 3)), noise)]  # fmt: skip
    assert (bordered[0] - bordered[1].roll((8, 16), (2, 3))).abs().max() > 10


def test_seamless_ends_where_it_was_asked_for(model: DiffusionModel) -> None:
    convolutions = [one for one in model.unet.modules() if isinstance(one, torch.nn.Conv2d)]
    with going_round(model):
        assert {one.padding_mode for one in convolutions} == {"circular"}
    assert {one.padding_mode for one in convolutions} == {"zeros"}
    with going_round(model, wanted=False):
        assert {one.padding_mode for one in convolutions} == {"zeros"}


# ---- scenes


def test_a_scene_takes_the_memory_of_one_tile(model: DiffusionModel, tmp_path: Path) -> None:
    """Neither network is ever shown more than a window of the model's own size, however large the scene is."""
    seen: dict[str, set[tuple[int, ...]]] = {"unet": set(), "decoder": set()}

    def note(name: str) -> Any:
        return lambda module, args: seen[name].add(tuple(args[0].shape[2:]))

    hooks = [
        model.unet.register_forward_pre_hook(note("unet")),
        model.vae.decoder.register_forward_pre_hook(note("decoder")),
    ]
    sampling = Sampling("dpm++2m", 1, 2.5, 128, 96, "fp32", window_px=32)
    pixels = TileMaker(model, tmp_path, 4, lambda event: None).make(TILES[:1], sampling)
    for hook in hooks:
        hook.remove()
    assert pixels.shape == (1, 96, 128, 3)
    assert seen == {"unet": {(8, 8)}, "decoder": {(8, 8)}}


def test_a_scene_no_larger_than_a_tile_is_a_tile(tiny_flow: Path, model: DiffusionModel) -> None:
    ref = ModelRef("tiny", tiny_flow)
    assert chosen_sampling(ref, model, GenerateSettings(scene=True)).window_px == 0
    assert chosen_sampling(ref, model, GenerateSettings(scene=True, width_px=40, height_px=32)).window_px == 32
    with pytest.raises(UsageError, match="over 8192 pixels"):
        chosen_sampling(ref, model, GenerateSettings(width_px=4096, height_px=64, upscale=4))


# ---- from a picture


def test_little_strength_stays_near_the_picture(model: DiffusionModel, tmp_path: Path, picture: Path) -> None:
    name = Path(keep_input(tmp_path, str(picture))).stem
    maker = TileMaker(model, tmp_path, 1, lambda event: None)
    with torch.inference_mode():
        # What the autoencoder alone makes of the picture, as this one knows little.
        seen = decoded(model, encoded(model, fitted_pixels(picture, 32, 32)[None])).astype(float)

    def distance(strength: float) -> float:
        sampling = Sampling("dpm++2m", 10, 1.0, 32, 32, "fp32", init_sha256=name, strength=strength)
        return float(np.abs(maker.make(TILES[:1], sampling) - seen).mean())

    assert distance(0.1) < 0.5 * distance(1.0)


def test_inpainting_leaves_the_rest_to_the_last_bit(
    workspace: Workspace, tiny_flow: Path, picture: Path, mask: Path
) -> None:
    wanted = {"init": str(picture), "mask": str(mask), "width_px": 48, "height_px": 40}
    _, _, folder = made(workspace, tiny_flow, "half-anew", **wanted)
    tile, before = pixels_of(folder / "tiles/000001.png"), pixels_of(picture)
    share = mask_of(mask, 48, 40)
    assert (tile == before)[share == 0].all()
    assert (tile != before)[share == 1].any(axis=1).mean() > 0.9


def test_a_picture_is_enlarged_at_its_own_size_and_its_recipe_goes_along(
    workspace: Workspace, tiny_flow: Path, picture: Path, tmp_path: Path
) -> None:
    recipe = {"prompt": "one river", "seed": 3, "synthetic": True}
    save_tile(tmp_path / "small.png", pixels_of(picture)[:16, :24], recipe)
    _, _, folder = made(workspace, tiny_flow, "large", 1, init=str(tmp_path / "small.png"), upscale=4, steps=4)
    tile = folder / "tiles/000001.png"
    assert open_picture(tile).size == (96, 64)
    assert read_recipe(tile)["source"] == recipe
    assert read_recipe(tile)["upscale"] == 4
    _, _, other = made(workspace, tiny_flow, "doubled", 1, init=str(picture), upscale=2, steps=4)
    assert open_picture(other / "tiles/000001.png").size == (96, 80)
    assert "source" not in read_recipe(other / "tiles/000001.png")


def test_an_enlarged_picture_shows_the_same_place() -> None:
    blocks = np.random.default_rng(7).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    pixels = blocks.repeat(4, 1).repeat(4, 2)
    large = enlarged(pixels, 2, wrap=False)
    assert large.shape == (1, 64, 64, 3)
    assert np.abs(large[:, 3::8, 3::8].astype(int) - blocks).mean() < 8  # the middle of each block


def test_what_goes_round_is_enlarged_round_its_border() -> None:
    pixels = np.random.default_rng(8).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    moved = enlarged(np.roll(pixels, (5, 9), (1, 2)), 2, wrap=True).astype(int)
    assert np.abs(moved - np.roll(enlarged(pixels, 2, wrap=True), (10, 18), (1, 2))).max() <= 1


def test_a_tile_without_its_input_says_what_is_missing(workspace: Workspace, tiny_flow: Path, picture: Path) -> None:
    _, _, folder = made(workspace, tiny_flow, "orphaned", init=str(picture))
    next((folder / "inputs").iterdir()).write_bytes(b"another")
    with pytest.raises(UsageError, match="began from is not in"):
        reproduce(workspace, folder / "tiles/000001.png", "cpu")


def test_a_tile_that_was_moved_finds_its_input_in_its_batch(
    workspace: Workspace, tiny_flow: Path, picture: Path, tmp_path: Path
) -> None:
    picture.write_bytes(png_of(1))
    _, _, folder = made(workspace, tiny_flow, "left", init=str(picture))
    moved = Path(shutil.copy(folder / "tiles/000001.png", tmp_path / "moved.png"))
    assert reproduce(workspace, moved, "cpu")["identical"]


def png_of(seed: int, size: tuple[int, int] = (32, 32)) -> bytes:
    return png_bytes(Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)))


@pytest.mark.parametrize(
    ("size", "asked", "said"),
    [
        ((32, 32), {}, ""),
        ((33, 33), {}, ""),
        ((96, 96), {}, "96 × 96, is shrunk to 32 × 32. Give --size 96x96 for its own size."),
        ((96, 96), {"width_px": 32, "height_px": 32}, ""),
        ((16, 16), {}, "16 × 16, is enlarged to 32 × 32. Give --size 16x16 for its own size."),
        ((50, 3000), {}, "3000 × 50, is cropped to its middle, made 32 × 32. Give --size 3000x48 for its own size."),
        ((48, 96), {"width_px": 32, "height_px": 32}, "96 × 48, is cropped to its middle, made 32 × 32. "),
    ],
)
def test_what_is_lost_of_a_picture_to_begin_from_is_told(
    size: tuple[int, int], asked: dict[str, int], said: str, tmp_path: Path
) -> None:
    (tmp_path / "real.png").write_bytes(png_of(2, size))
    name = Path(keep_input(tmp_path, str(tmp_path / "real.png"))).stem
    settings = GenerateSettings(init="kept", **asked)
    sampling = Sampling("ddim", 2, 2.5, 32, 32, "fp32", init_sha256=name)
    told = [f"{one.message} {one.hint}" for one in fitting_remarks(tmp_path, settings, sampling)]
    assert len(told) == bool(said)
    assert all(said in one for one in told)


def test_a_batch_tells_what_it_crops(workspace: Workspace, tiny_flow: Path, picture: Path) -> None:
    _, events, _ = made(workspace, tiny_flow, "cropped", 1, init=str(picture))
    assert [one.message for one in events if isinstance(one, Warned)] == [
        "The picture to begin from, 48 × 40, is cropped to its middle, made 32 × 32."
    ]


class TestAMask:
    def refused(self, picture: Path, mask: Image.Image) -> str:
        mask.save(picture.with_name("drawn.png"))
        with pytest.raises(UsageError) as caught:
            sized_as_its_input(GenerateSettings(init=str(picture), mask=str(picture.with_name("drawn.png"))))
        return caught.value.message

    def test_is_of_its_pictures_shape(self, picture: Path) -> None:
        assert "The mask is 40 × 40 and its picture 48 × 40" in self.refused(picture, Image.new("L", (40, 40), 255))
        Image.new("L", (24, 20), 255).save(picture.with_name("half.png"))
        settings = GenerateSettings(init=str(picture), mask=str(picture.with_name("half.png")))
        assert sized_as_its_input(settings) == settings

    def test_is_white_somewhere(self, picture: Path) -> None:
        assert "has no white" in self.refused(picture, Image.new("RGB", (48, 40)))

    def test_hides_no_white_under_transparency(self, picture: Path) -> None:
        ours = Image.new("RGBA", (48, 40), (0, 0, 0, 0))
        ours.paste((255, 255, 255, 255), (0, 0, 24, 40))
        ours.save(picture.with_name("layer.png"))
        settings = GenerateSettings(init=str(picture), mask=str(picture.with_name("layer.png")))
        assert sized_as_its_input(settings) == settings
        comfyui = Image.new("RGBA", (48, 40), (255, 255, 255, 255))
        comfyui.paste((255, 255, 255, 0), (0, 0, 24, 40))
        assert "is white where it is transparent" in self.refused(picture, comfyui)


def test_a_strength_needs_something_to_be_the_strength_of(workspace: Workspace, tiny_flow: Path) -> None:
    settings = GenerateSettings(model=str(tiny_flow), strength=0.5)
    with pytest.raises(UsageError, match="A strength needs a picture"):
        requests.generate_job(workspace, settings, TILES, "strong")
    told = GridSettings(x="strength=0.2,0.4", prompt="one river", tiles=GenerateSettings(model=str(tiny_flow)))
    with pytest.raises(UsageError, match="A strength needs a picture"):
        requests.grid_job(workspace, told, "strong")
    assert not (workspace.batches / "strong").exists()


def test_a_strength_without_a_picture_is_not_recorded(tiny_flow: Path, model: DiffusionModel) -> None:
    ref = ModelRef("tiny", tiny_flow)
    assert chosen_sampling(ref, model, GenerateSettings(strength=0.5)).strength == 1.0
    assert chosen_sampling(ref, model, GenerateSettings(strength=0.5, upscale=2)).strength == 0.5


def test_what_does_nothing_without_guidance_is_told(workspace: Workspace, tiny_flow: Path) -> None:
    def told(name: str, **values: Any) -> list[str]:
        return [one.message for one in made(workspace, tiny_flow, name, 1, **values)[1] if isinstance(one, Warned)]

    assert told("guided", guidance=2, rescale=0.5) == []
    assert told("unguided", guidance=1, rescale=0.5) == [
        "The negative prompt does nothing at guidance 1.", "Rescaling does nothing at guidance 1.",
    ]  # fmt: skip


def test_a_missing_input_makes_no_batch(workspace: Workspace, tiny_flow: Path, tmp_path: Path) -> None:
    settings = GenerateSettings(model=str(tiny_flow), init=str(tmp_path / "absent.png"))
    with pytest.raises(UsageError, match="no file"):
        requests.generate_job(workspace, settings, TILES, "never")
    assert not (workspace.batches / "never").exists()


def test_what_cannot_go_together_is_refused() -> None:
    with pytest.raises(ValidationError, match="a mask needs a picture"):
        GenerateSettings(mask="mask.png")
    with pytest.raises(ValidationError, match="one after the other"):
        GenerateSettings(init="a.png", mask="mask.png", upscale=2)


# ---- how many together


def test_when_memory_runs_out_fewer_are_made_together(
    tiny_flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a GPU with room for two rows of the network, one tile with guidance, would have it."""
    model = load_model(ModelRef("tiny", tiny_flow), "cpu")
    real = model.unet.forward

    def small(latents: torch.Tensor, *args: Any, **named: Any) -> Any:
        if len(latents) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(latents, *args, **named)

    monkeypatch.setattr(model.unet, "forward", small)
    events: list[Event] = []
    maker = TileMaker(model, tmp_path, 8, events.append)
    sampling = Sampling("dpm++2m", 2, 2.5, 32, 32, "fp32")
    tiles = plan_tiles([PromptLine("one river")], 8, seed=1)
    batches = list(maker.made(tiles, lambda tile: False, sampling, lambda done, total: None))
    assert [len(rows) for rows, _ in batches] == [2, 2, 2, 2]
    assert [tile.index for rows, _ in batches for tile in rows] == list(range(8))
    assert [event.message.split(";")[0] for event in events if isinstance(event, Warned)] == [
        "Memory ran out with 8 tiles at once", "Memory ran out with 4 tiles at once",
    ]  # fmt: skip
    assert recalled_batch(tmp_path) == 2
    monkeypatch.setattr(model.unet, "forward", lambda *args, **named: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(maker.made(tiles, lambda tile: False, sampling, lambda done, total: None))


def test_one_tile_that_does_not_fit_is_an_error(
    tiny_flow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(ModelRef("tiny", tiny_flow), "cpu")

    def full(*args: Any, **named: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(model.unet, "forward", full)
    maker = TileMaker(model, tmp_path, 1, lambda event: None)
    sampling = Sampling("dpm++2m", 2, 2.5, 32, 32, "fp32")
    with pytest.raises(torch.OutOfMemoryError):
        list(maker.made(TILES, lambda tile: False, sampling, lambda done, total: None))


def test_whoever_goes_on_makes_as_many_together(workspace: Workspace, tiny_flow: Path) -> None:
    values = {"model": str(tiny_flow), "steps": 2}
    job = requests.generate_job(workspace, GenerateSettings.model_validate(values), TILES, "planned")
    files.write_json(job.folder.path / "together.json", {"batch": 2})
    assert run(job)[0].outcome == "completed"
    rows = [read_recipe(job.folder.path / f"tiles/{number:06d}.png")["rows"] for number in (1, 2, 3)]
    assert rows == [2, 2, 1]


def test_a_cpu_takes_eight_and_a_scene_one(model: DiffusionModel) -> None:
    sampling = Sampling("dpm++2m", 2, 2.5, 32, 32, "fp32")
    assert planned_batch(model, sampling, 1000) == ON_CPU
    assert planned_batch(model, sampling, 3) == 3
    assert planned_batch(model, Sampling("dpm++2m", 2, 2.5, 64, 64, "fp32", window_px=32), 1000) == 1


def test_compiling_waits_for_enough_work() -> None:
    assert not compiling_repays(2.0, 100)  # saves half a minute of a minute
    assert compiling_repays(2.0, 300)


# ---- prompts and progress


def test_each_prompt_is_embedded_once(model: DiffusionModel, tmp_path: Path) -> None:
    embedded: list[int] = []
    hook = model.text_encoder.register_forward_pre_hook(lambda module, args: embedded.append(len(args[0])))
    sampling = Sampling("dpm++2m", 1, 2.5, 32, 32, "fp32")
    maker = TileMaker(model, tmp_path, 2, lambda event: None)
    tiles = plan_tiles([PromptLine("one {river|forest}", "fog")], 6, seed=1)
    list(maker.made(tiles, lambda tile: False, sampling, lambda done, total: None))
    hook.remove()
    assert embedded == [1, 1, 1]  # two prompts and what is steered away from, for six tiles


def test_the_tile_in_hand_is_told_step_by_step(
    workspace: Workspace, tiny_flow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studio.generation import generate

    monkeypatch.setattr(generate, "_SECONDS_BETWEEN_STEPS_TOLD", 0.0)
    _, events, _ = made(workspace, tiny_flow, "step-by-step", steps=3)
    phases = [(one.done, one.step, one.steps) for one in events if isinstance(one, Phase) and one.total == 3]
    assert phases[:5] == [(0, 0, 3), (0, 1, 3), (0, 2, 3), (0, 3, 3), (2, 0, 3)]
    assert phases[-1] == (3, 0, 0)


def test_a_tile_says_in_iptcs_words_that_it_is_synthetic(
    workspace: Workspace, tiny_flow: Path, picture: Path, mask: Path
) -> None:
    def kind(folder: Path) -> str:
        with Image.open(folder / "tiles/000001.png") as image:
            packet = str(image.info["XML:com.adobe.xmp"])
        declared = ElementTree.fromstring(packet.replace("\ufeff", "")).find(".//{*}DigitalSourceType")
        assert declared is not None
        assert declared.tag == "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
        assert declared.text is not None
        return declared.text.removeprefix("http://cv.iptc.org/newscodes/digitalsourcetype/")

    assert kind(made(workspace, tiny_flow, "declared", 1)[2]) == "trainedAlgorithmicMedia"
    folder = made(workspace, tiny_flow, "declared-in-part", 1, init=str(picture), mask=str(mask))[2]
    assert kind(folder) == "compositeWithTrainedAlgorithmicMedia"


def test_steps_that_a_sampler_cannot_take_are_refused_on_the_command_line(
    tmp_path: Path, tiny_flow: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told = ["--model", tiny_flow, "--prompt", "one river", "--sampler", "dpm++2m-sde", "--steps", "1000"]
    answer = speaker(capfd)("--json", tmp_path / "ws", "generate", *told)
    assert answer.code == 2
    assert "steps: dpm++2m-sde takes 998 steps at most (given: 1000)" in answer.error
    assert not (tmp_path / "ws").exists()


def test_generate_on_the_command_line_takes_every_mode(
    tmp_path: Path, tiny_flow: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told = ["--model", tiny_flow, "--prompt", "one river", "--steps", "2", "--sampler", "euler-a", "--rescale", "0.5"]
    answer = speaker(capfd)(tmp_path / "ws", "generate", *told, "--scene", "64x32", "--seamless", "--as", "wide")
    assert answer.code == 0, answer.err
    recipe = read_recipe(tmp_path / "ws/batches/wide/tiles/000001.png")
    wanted = {"sampler": "euler-a", "rescale": 0.5, "width_px": 64, "window_px": 32, "seamless": True}
    assert {key: recipe[key] for key in wanted} == wanted
