"""What a recipe may ask for beside the plain run: each goes on after a stop as if nothing had happened."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from studio import files, requests
from studio.context import Context
from studio.control import Control
from studio.errors import StudioError, UsageError
from studio.events import Event, Paused, Phase, StepDone, Warned
from studio.models import checkpoints
from studio.models.load import DiffusionModel
from studio.settings import D4, OptimiserSettings, TrainSettings
from studio.training import encoding, opening
from studio.training.adapters import FILE
from studio.training.diffusion import Diffusion, row_means
from studio.training.opening import open_diffusion
from studio.training.previews import tiles_of
from studio.training.probe import Probe
from studio.workspace import Workspace, make_workspace
from tests.studio.small_models import SIZE_PX
from tests.studio.training_runs import make_dataset, newest, resume, settings, train, weights_of

STEPS = 4


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Ten pictures for training: squares with a black rim, and three lying ones among them."""
    made = make_workspace(tmp_path_factory.mktemp("extras") / "workspace")
    folder = make_dataset(made)
    rows = list(files.read_records(folder / "captions.jsonl"))
    (folder / "captions.jsonl").unlink()
    for index, row in enumerate(rows):
        width = SIZE_PX if index % 4 else 2 * SIZE_PX
        pixels = np.random.default_rng(index).integers(1, 256, (SIZE_PX, width, 3), dtype=np.uint8)
        pixels[:6] = 0
        Image.fromarray(pixels).save(folder / row["file_name"])
        row |= {"sha256": files.sha256_of(folder / row["file_name"]), "width_px": width}
        if index == 1:
            row["captions"] = ["a road on the left", "the north of a town"]
        files.append_record(folder / "captions.jsonl", row)
    return made


def told(base: Path, method: dict[str, Any] | None = None, **other: Any) -> TrainSettings:
    """`other` goes into the optimiser, but for the data's own settings."""
    data = {key: other.pop(key) for key in ("buckets", "ignore", "normalisation", "orientations") if key in other}
    plain = settings(base, method, STEPS, data=data).model_dump()
    return TrainSettings.model_validate(plain | {"optimiser": plain["optimiser"] | other})


def opened(workspace: Workspace, wanted: TrainSettings, seen: list[Event] | None = None) -> Diffusion:
    job = requests.train_job(workspace, wanted, f"opened-{len(list(workspace.runs.iterdir()))}")
    emit = (lambda event: None) if seen is None else seen.append
    return open_diffusion(Context(workspace, job.folder, wanted, "cpu", emit, Control()), wanted)


LORA = {"name": "lora", "rank": 2, "alpha": 2.0}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lora": (
        {**LORA, "dropout": 0.3, "dora": True, "text_encoder": True},
        {"name": "prodigy", "learning_rate": 1.0, "precision": "bf16", "ema": 0.9}
        | {"gradient_checkpointing": True, "batch": 4, "micro_batch": 2},
    ),
    "full": (
        {"name": "full"},
        {"name": "adafactor", "min_snr_gamma": 5.0, "offset_noise": 0.1}
        | {"buckets": True, "ignore": "black", "normalisation": "dataset"},
    ),
    "fp16": ({**LORA, "text_encoder": True}, {"precision": "fp16"}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_run_stopped_midway_ends_as_one_that_was_not(variant: str, workspace: Workspace, tiny_epsilon: Path) -> None:
    if variant == "lora":
        pytest.importorskip("prodigyopt", reason="The extra prodigy is not installed.")
    wanted = told(tiny_epsilon, VARIANTS[variant][0], **VARIANTS[variant][1])
    _, events, whole = train(workspace, wanted, f"{variant}-whole")

    def stop(event: Event, control: Control) -> None:
        if isinstance(event, StepDone) and event.step == 1:
            control.ask("stop")

    train(workspace, wanted, f"{variant}-parted", stop)
    finished, _ = resume(workspace, f"{variant}-parted")
    assert (finished.outcome, finished.result["from_step"]) == ("completed", 1)
    assert weights_of(workspace.run(f"{variant}-parted")) == weights_of(whole)
    losses = [event.loss for event in events if isinstance(event, StepDone)]
    assert len(set(losses)) == STEPS
    normalisation = json.loads((newest(whole) / "state.json").read_text())["normalisation"]
    assert np.shape(normalisation) == ((2, 3) if variant == "full" else ())


def test_a_resumed_optimiser_lies_in_memory_as_its_weights_do(
    workspace: Workspace, tiny_epsilon: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Channels last, as on CUDA, where fused steps go through both at once and check no shape."""
    load = opening.load_model

    def channels_last(*told: Any) -> Any:
        model = load(*told)
        model.unet.to(memory_format=torch.channels_last)
        return model

    monkeypatch.setattr(opening, "load_model", channels_last)
    wanted = told(tiny_epsilon, {"name": "full"})
    _, _, whole = train(workspace, wanted, "last-whole")

    def stop(event: Event, control: Control) -> None:
        if isinstance(event, StepDone) and event.step == 2:
            control.ask("stop")

    train(workspace, wanted, "last-parted", stop)
    resume(workspace, "last-parted")
    assert weights_of(workspace.run("last-parted")) == weights_of(whole)


@pytest.mark.parametrize("look", ["The previews", "The measure", "The probe"])
def test_a_look_that_does_not_fit_costs_the_run_nothing(
    look: str, workspace: Workspace, tiny_epsilon: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decode(self: DiffusionModel, latents: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("There is no room.")

    monkeypatch.setattr(DiffusionModel, "decode", decode)
    plain = told(tiny_epsilon).model_dump()
    saving = {"preview_every": 2, "preview_prompts": ("a river",) if look == "The previews" else ()}
    saving |= {"measure_every": 2 if look == "The measure" else 0, "checkpoint_every": 100}
    wanted = TrainSettings.model_validate(plain | {"saving": plain["saving"] | saving})
    name = f"no-room-{look.split()[1]}"
    if look == "The probe":
        monkeypatch.setattr(Probe, "look", lambda self, step: decode(self, step) if step else [])
        wanted = TrainSettings.model_validate(plain | {"saving": plain["saving"] | saving | {"probe_every": 2}})
    finished, events, run = train(workspace, wanted, name)
    assert finished.outcome == "completed", finished.message
    said = [event.message for event in events if isinstance(event, Warned) and look in event.message]
    assert said == [f"{look} of step {step} did not fit into memory, and the run goes on without." for step in (2, 4)]
    assert checkpoints.step_of(newest(run)) == STEPS


def test_validation_and_previews_do_with_less_memory(workspace: Workspace, tiny_epsilon: Path) -> None:
    task = opened(workspace, told(tiny_epsilon))
    assert task.prepare()
    whole, drawn = task.validation_loss(), tiles_of(task.model, task.settings, ["a river", "", "a field"])
    predict, sizes = task.model.predict, list[int]()

    def predict_few(latents: Tensor, *rest: Any) -> Tensor:
        sizes.append(len(latents))
        if len(latents) > 2:
            raise torch.OutOfMemoryError("There is no room.")
        return predict(latents, *rest)

    task.model.predict = predict_few  # type: ignore[method-assign]
    assert task.validation_loss() == pytest.approx(whole, rel=1e-5)
    assert max(sizes) > 2 >= sizes[-1]
    fewer = tiles_of(task.model, task.settings, ["a river", "", "a field"])
    assert np.abs(fewer.astype(int) - drawn).max() <= 1


def test_checkpointing_activations_changes_no_bit(workspace: Workspace, tiny_epsilon: Path) -> None:
    gradients = []
    for checkpointing in (False, True):
        wanted = told(tiny_epsilon, {**LORA, "dropout": 0.3}, gradient_checkpointing=checkpointing)
        task = opened(workspace, wanted)
        assert task.model.unet.is_gradient_checkpointing == checkpointing
        assert task.prepare()
        assert task.encode(range(2))
        task.loss(0, range(2)).backward()
        gradients.append([one.grad for one in task.parameters.values()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
    assert any(one.any() for one in gradients[0])


def test_a_saving_optimiser_that_is_not_installed_is_named(
    workspace: Workspace, tiny_epsilon: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes", None)
    finished, _, _ = train(workspace, told(tiny_epsilon, name="adamw8bit"), "eight-bits")
    assert finished.exit_code == 2
    assert "pip install 'rs-studio[quantize]'" in finished.hint


def test_frozen_words_take_half_the_room_on_a_gpu(
    workspace: Workspace, tiny_epsilon: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = told(tiny_epsilon, precision="bf16")
    assert opening.frozen_text_dtype(wanted, "cuda:0") == torch.bfloat16
    assert opening.frozen_text_dtype(wanted, "cpu") == torch.float32
    assert opening.frozen_text_dtype(told(tiny_epsilon), "cuda:0") == torch.float32
    exact = opened(workspace, wanted)
    monkeypatch.setattr(opening, "frozen_text_dtype", lambda *told: torch.bfloat16)
    task = opened(workspace, wanted)
    losses = []
    for one in (exact, task):
        assert one.prepare()
        assert one.encode(range(1))
        losses.append(one.loss(0, range(2)).item())
        one.preview(0)
    assert losses[0] != losses[1]  # each has a cache of its own
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)


@pytest.mark.parametrize("method", ["scenes", "text"])
def test_what_is_compared_within_a_pass_trains_in_one_process(
    method: str, workspace: Workspace, tiny_flow: Path
) -> None:
    from studio.training.processes import Team
    from studio.training.train import train as run_all

    job = requests.train_job(workspace, settings(tiny_flow, {"name": method}), f"two-{method}")
    context = Context(workspace, job.folder, job.settings, "cpu", lambda event: None, Control())
    with pytest.raises(UsageError, match="trains in one process"):
        run_all(context, Team(0, 2))


@pytest.mark.parametrize("method", [{"name": "autoencoder"}, {"name": "text"}])
def test_only_tiles_are_ranked_by_their_distance(method: dict[str, Any], workspace: Workspace, tiny_flow: Path) -> None:
    finished, _, _ = train(
        workspace, settings(tiny_flow, method, rank_by="kid", measure_every=1), f"kid-{method['name']}"
    )
    assert (finished.exit_code, "makes no tiles" in finished.message) == (2, True)


def test_prodigy_refuses_a_step_size_meant_for_another() -> None:
    with pytest.raises(ValueError, match="set learning_rate to 1"):
        OptimiserSettings(name="prodigy", learning_rate=1e-4)


class TestLoss:
    def test_caches_change_no_bit_of_it(self, workspace: Workspace, tiny_epsilon: Path) -> None:
        """A step against the same one on latents and embeddings made anew."""
        task = opened(workspace, told(tiny_epsilon))
        assert task.prepare()
        assert task.encode(range(2))
        cached = task.loss(1, range(2))

        def moments(pictures: Any, entries: Any) -> tuple[Tensor, Tensor]:
            with torch.no_grad():
                alone = [task.model.vae.encode(pictures.tensor([entry])).latent_dist for entry in entries]
            return torch.cat([one.mean for one in alone]), torch.cat([one.logvar for one in alone])

        task.encodings.moments = moments  # type: ignore[method-assign]
        task.encodings.text = lambda captions: task.model.embed(list(captions))  # type: ignore[method-assign]
        assert task.loss(1, range(2)).item() == cached.item()

    def test_it_is_the_mean_over_rows_whichever_go_together(self, workspace: Workspace, tiny_epsilon: Path) -> None:
        method = {**LORA, "dora": True}
        task = opened(
            workspace, told(tiny_epsilon, method, batch=4, min_snr_gamma=5.0, offset_noise=0.1, ignore="black")
        )
        assert task.prepare()
        assert task.encode(range(2))
        whole = task.loss(0, range(4)).item()
        for parts in ((range(2), range(2, 4)), (range(0, 4, 2), range(1, 4, 2))):
            assert sum(task.loss(0, part).item() for part in parts) / 2 == pytest.approx(whole, rel=1e-5)

    def test_pixels_without_data_have_no_part_in_it(self, workspace: Workspace, tiny_epsilon: Path) -> None:
        """The rim of six black rows: a cell and a half of four pixels."""
        task = opened(workspace, told(tiny_epsilon, ignore="black"))
        assert task.prepare()
        assert task.encodings.fill_texts([""])
        share = task.encodings.masks(task.training, [(1, 0), (1, D4.index("rotate180"))])
        assert share is not None
        assert share[0, 0, :3, 0].tolist() == pytest.approx([0, 0.5, 1], abs=0.01)
        assert torch.equal(share[1, 0], share[0, 0].flip(0, 1))
        predict = task.model.predict

        def wrong_in_the_rim(latents: Tensor, *rest: Any) -> Tensor:
            said = predict(latents, *rest).clone()
            said[0, :, 0], said[1, :, -1] = 1e6, 1e6
            return said

        entries = [(1, 0), (1, D4.index("rotate180"))]
        latents = torch.randn(2, 4, *share.shape[2:], generator=torch.Generator().manual_seed(0))
        arguments = (task.training, entries, ["", ""], latents, latents, torch.tensor([0.1, 0.9]))
        honest = row_means(task._errors(*arguments), share)
        task.model.predict = wrong_in_the_rim  # type: ignore[method-assign]
        assert torch.equal(row_means(task._errors(*arguments), share), honest)

    def test_it_is_measured_without_dropout(self, workspace: Workspace, tiny_epsilon: Path) -> None:
        task = opened(workspace, told(tiny_epsilon, {**LORA, "dropout": 0.9}))
        assert task.prepare()
        assert task.encode(range(2))
        with torch.no_grad():
            for one in task.parameters.values():
                one.fill_(0.2)
        assert task.validation_loss() == task.validation_loss()
        assert task.model.unet.training
        once = task.loss(0, range(2)).item()
        assert task.loss(0, range(2)).item() == once
        apart = task.loss(0, range(1)).item() + task.loss(0, range(1, 2)).item()
        assert apart / 2 != pytest.approx(once, rel=1e-6)

    def test_min_snr_is_refused_for_a_flow(self, workspace: Workspace, tiny_flow: Path) -> None:
        with pytest.raises(UsageError, match="predicts a flow"):
            opened(workspace, told(tiny_flow, min_snr_gamma=5.0))


class TestBuckets:
    def test_each_step_is_of_one_shape(self, workspace: Workspace, tiny_epsilon: Path) -> None:
        task = opened(workspace, told(tiny_epsilon, buckets=True))
        seen = set()
        for step in range(40):
            shapes = {task.training.shape(draw.picture, draw.orientation) for draw in task.draws(step)}
            assert len(shapes) == 1
            seen |= shapes
        assert seen == {(32, 32), (24, 40), (40, 24)}
        entries = [(draw.picture, draw.orientation) for draw in task.draws(0)]
        assert task.training.tensor(entries).shape[2:] == task.training.shape(*entries[0])

    def test_models_that_are_told_sizes_hear_the_pictures_own(self, workspace: Workspace, tiny_epsilon: Path) -> None:
        training = opened(workspace, told(tiny_epsilon)).training
        frames = training.frames([(0, 0), (0, D4.index("flip-rotate90")), (1, 0)])
        assert frames.tolist() == [[32, 64, 0, 16, 32, 32], [64, 32, 16, 0, 32, 32], [32, 32, 0, 0, 32, 32]]

    def test_tiles_are_measured_against_squares(self, workspace: Workspace, tiny_epsilon: Path) -> None:
        task = opened(workspace, told(tiny_epsilon, buckets=True))
        assert task.measure(1).n_real == len(task.measured)


class TestEncoding:
    def test_memory_that_runs_out_halves_what_is_encoded_at_once(
        self, workspace: Workspace, tiny_epsilon: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen: list[Event] = []
        task = opened(workspace, told(tiny_epsilon, normalisation="dataset"), seen)
        encode, sizes = task.model.vae.encode, list[int]()

        def encode_few(pixels: Tensor) -> Any:
            sizes.append(len(pixels))
            if len(pixels) > 5:
                raise torch.OutOfMemoryError("There is no room.")
            return encode(pixels)

        monkeypatch.setattr(task.model.vae, "encode", encode_few)
        task.encodings._pictures_at_once.count = 16  # as on a GPU; a CPU encodes one by one
        entries = [(index, orientation) for index in range(4) for orientation in range(8)]
        assert task.encodings.fill_latents(task.training, entries)
        assert sizes == [16, 8, 4, 4, 4, 4, 4, 4, 4, 4]
        said = [event.message for event in seen if isinstance(event, Warned) and "Memory" in event.message]
        assert said == [f"Memory ran out: going on with {size} pictures at once." for size in (8, 4)]
        assert [event.done for event in seen if isinstance(event, Phase)][-1] == 32

    def test_a_disk_that_is_too_small_is_noticed_before(
        self, workspace: Workspace, tiny_epsilon: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        task = opened(workspace, told(tiny_epsilon, normalisation="dataset", orientations=["flip"]))
        monkeypatch.setattr(encoding.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100}))
        with pytest.raises(UsageError, match=r"the disk has 0\.0 MB"):
            task.prepare()

    def test_a_long_run_needs_room_for_every_orientation_once(
        self, workspace: Workspace, tiny_epsilon: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        turned = ["rotate90", "rotate270"]
        task = opened(workspace, told(tiny_epsilon, steps=10**9, normalisation="dataset", orientations=turned))
        cache = task.encodings._cache_of(task.training, (SIZE_PX, SIZE_PX))
        missing = 2 * len(task.training) - cache.filled([D4.index(one) for one in turned])
        free_bytes = needed_bytes = missing * cache.entry_bytes
        monkeypatch.setattr(encoding.shutil, "disk_usage", lambda path: type("Usage", (), {"free": free_bytes}))
        assert task.prepare()
        free_bytes = needed_bytes - 1
        with pytest.raises(UsageError, match="the disk has"):
            task.prepare()
        assert task.encode(range(1))
        assert task.prepare()  # what is there already needs no room

    def test_captions_that_turning_belies_are_shown(self, workspace: Workspace, tiny_epsilon: Path) -> None:
        for orientations, wanted in ((list(D4), 1), (["identity"], 0)):
            seen: list[Event] = []
            assert opened(workspace, told(tiny_epsilon, orientations=orientations), seen).prepare()
            found = [event.message for event in seen if isinstance(event, Warned)]
            assert len(found) == wanted
        seen = []
        assert opened(workspace, told(tiny_epsilon), seen).prepare()
        (message,) = [event.message for event in seen if isinstance(event, Warned)]
        assert message.startswith("2 of 20 captions name directions")
        assert "“a road on the left”; “the north of a town”" in message


def test_a_run_that_cannot_encode_on_keeps_its_steps(
    workspace: Workspace, tiny_epsilon: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = Diffusion.encode

    def fails_later(self: Diffusion, steps: range) -> bool:
        if steps.start == 2:
            raise StudioError("7.png is not a picture.")
        return encode(self, steps)

    monkeypatch.setattr(Diffusion, "encode", fails_later)
    finished, _, run = train(workspace, told(tiny_epsilon), "unread")
    assert (finished.outcome, finished.message) == ("failed", "7.png is not a picture.")
    assert checkpoints.step_of(newest(run)) == 2


def test_a_pause_while_encoding_says_how_far_the_run_is(workspace: Workspace, tiny_epsilon: Path) -> None:
    steps = list[int]()

    def rest(event: Event, control: Control) -> None:
        if isinstance(event, StepDone):
            steps.append(event.step)
        elif isinstance(event, Paused):
            control.ask("resume")
        elif isinstance(event, Phase) and event.name == "Encoding pictures" and event.done and steps == [1, 2]:
            steps.append(0)
            control.ask("pause")

    wanted = told(tiny_epsilon, normalisation="dataset", orientations=["flip-rotate90"])
    _, events, _ = train(workspace, wanted, "rested", rest)
    assert [event.step for event in events if isinstance(event, Paused)] == [2]


def test_normalised_pictures_have_mean_nought_and_deviation_one(workspace: Workspace, tiny_epsilon: Path) -> None:
    task = opened(workspace, told(tiny_epsilon, normalisation="dataset"))
    pixels = task.training.tensor([(index, 0) for index in range(len(task.training)) if index % 4])
    assert pixels.mean(dim=(0, 2, 3)).abs().max() < 0.1
    assert (pixels.std(dim=(0, 2, 3)) - 1).abs().max() < 0.1
    assert task.measured.normalisation == task.training.normalisation
    # Decoding takes it back: through an autoencoder that changes nothing, a picture is itself.
    task.model.vae.decode = lambda latents: SimpleNamespace(sample=latents)  # type: ignore[method-assign]
    task.model.vae.register_to_config(scaling_factor=1.0)
    upright = torch.from_numpy(task.training.pixels(1))
    assert torch.equal(task.model.decode(task.training.tensor([(1, 0)]))[0], upright)


def test_a_model_of_two_text_encoders_learns_from_cached_words_and_frames(
    workspace: Workspace, narrow_xl: Path
) -> None:
    """A LoRA over an XL, its two text encoders too or not, and what a run loads again."""
    said = []
    for method in (LORA, {**LORA, "text_encoder": True}):
        data = {"orientations": ["identity", "rotate90"], "normalisation": "none"}
        wanted = told(narrow_xl, method, **data, precision="fp32")
        task = opened(workspace, wanted)
        assert task.prepare()
        assert task.encode(range(2))
        heard = list[tuple[Any, ...]]()

        def listening(*said: Any, heard: list[Any] = heard, predict: Any = task.model.predict) -> Any:
            heard.append(said)
            return predict(*said)

        task.model.predict = listening  # type: ignore[method-assign]
        loss = task.loss(0, range(2))
        loss.backward()
        assert all(one.grad is not None for one in task.parameters.values())
        kinds = {name.split(".")[0] for name in task.parameters if name.startswith("text_encoder")}
        assert kinds == ({"text_encoder", "text_encoder_2"} if method.get("text_encoder") else set())
        entries = [(draw.picture, draw.orientation) for draw in task.draws(0)]
        assert heard[0][2].pooled.shape == (2, task.model.text_encoder_2.config.projection_dim)
        assert torch.equal(heard[0][3], task.training.frames(entries))
        said.append(loss.item())
    # Additions begin as nothing, so words embedded ahead and words embedded now say the same.
    assert said[0] == pytest.approx(said[1], abs=1e-6)


def test_a_run_of_two_text_encoders_is_read_back(workspace: Workspace, narrow_xl: Path) -> None:
    method = {**LORA, "text_encoder": True, "rank": 2}
    finished, _, run = train(workspace, told(narrow_xl, method, steps=2, learning_rate=0.05), "xl")
    assert finished.outcome == "completed", finished.message
    names = load_file(newest(run) / "lora" / FILE)
    assert {name.split(".")[0] for name in names} == {"unet", "text_encoder", "text_encoder_2"}
    again = opened(workspace, told(Path("xl")))
    assert again.prepare()
    assert again.validation_loss() == pytest.approx(finished.result["validation_loss_last"], rel=1e-4)
    with pytest.raises(UsageError, match="changed its text encoder"):
        opened(workspace, told(Path("xl"), {"name": "full"}))


def test_other_methods_refuse_what_only_diffusion_knows(workspace: Workspace) -> None:
    wanted = told(Path(), {"name": "autoencoder", "channels": [16, 24, 32], "latent_channels": 4}, buckets=True)
    finished, _, _ = train(workspace, wanted, "odd")
    assert (finished.exit_code, finished.message) == (2, "The method autoencoder knows no buckets.")
