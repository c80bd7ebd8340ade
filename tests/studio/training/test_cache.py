from pathlib import Path

import numpy as np
import pytest
import torch

from studio import requests
from studio.context import Context
from studio.control import Control
from studio.settings import D4
from studio.training.cache import LatentCache, TextCache, sample
from studio.training.diffusion import open_diffusion
from studio.workspace import Workspace
from tests.studio.training_runs import make_dataset, settings

SHAPE = (2, 1, 1)
ENTRIES = [(picture, orientation) for picture in range(5) for orientation in range(8)]


def encoded(entries: list[tuple[int, int]]) -> torch.Tensor:
    return torch.tensor([[float(picture), float(orientation)] for picture, orientation in entries]).view(-1, *SHAPE)


class TestLatents:
    def test_what_was_encoded_comes_back(self, tmp_path: Path) -> None:
        cache = LatentCache(tmp_path, 5, SHAPE)
        assert sum(map(len, cache.missing(ENTRIES))) == 40
        assert list(cache.fill(cache.missing(ENTRIES), encoded)) == [16, 32, 40]
        again = LatentCache(tmp_path, 5, SHAPE)
        assert again.missing(ENTRIES) == []
        mean, log_variance = again.moments([(3, 7), (0, 2)])
        assert mean.flatten().tolist() == [3, 0]
        assert log_variance.flatten().tolist() == [7, 2]

    def test_encoding_goes_on_where_it_was_cut_off_in_the_same_batches(self, tmp_path: Path) -> None:
        cache = LatentCache(tmp_path, 5, SHAPE)
        batches = cache.missing(ENTRIES)
        filling = cache.fill(batches, encoded)
        next(filling)
        filling.close()
        assert LatentCache(tmp_path, 5, SHAPE).missing(ENTRIES) == batches[1:]

    def test_what_another_run_encoded_is_not_changed(self, tmp_path: Path) -> None:
        cache = LatentCache(tmp_path, 5, SHAPE)
        list(cache.fill(cache.missing([(0, 1)]), encoded))
        assert cache.missing(ENTRIES)[0][:3] == [(0, 0), (0, 1), (0, 2)]
        list(cache.fill(cache.missing(ENTRIES), lambda entries: encoded(entries) + 1))
        assert cache.moments([(0, 0), (0, 1)])[0].flatten().tolist() == [1, 0]

    def test_opening_it_twice_empties_nothing(self, tmp_path: Path) -> None:
        first = LatentCache(tmp_path, 5, SHAPE)
        list(first.fill([[(0, 0)]], encoded))
        second = LatentCache(tmp_path, 5, SHAPE)
        assert second.missing([(0, 0)]) == []


class TestTexts:
    def test_each_caption_is_embedded_once(self, tmp_path: Path) -> None:
        texts = [f"text {number}" for number in range(20)]
        asked: list[str] = []

        def embed(some: list[str]) -> torch.Tensor:
            asked.extend(some)
            return torch.tensor([[[float(text.split()[1])] * 3] * 2 for text in some])

        cache = TextCache(tmp_path, "encoder", texts)
        assert not cache.is_ready
        with pytest.raises(RuntimeError, match="before it was filled"):
            cache.embeddings(["text 3"])
        assert list(cache.fill(embed)) == [16, 20]
        assert asked == texts
        again = TextCache(tmp_path, "encoder", texts)
        assert again.is_ready
        assert again.embeddings(["text 19", "text 3"])[:, 0, 0].tolist() == [19, 3]
        assert not TextCache(tmp_path, "another encoder", texts).is_ready

    def test_half_a_file_is_never_found(self, tmp_path: Path) -> None:
        cache = TextCache(tmp_path, "encoder", ["a"] * 20)
        filling = cache.fill(lambda some: torch.zeros(len(some), 2, 3))
        next(filling)
        filling.close()
        assert list(tmp_path.iterdir()) == []


def test_a_draw_from_a_gaussian_by_hand() -> None:
    """Deviation exp(0.5 · ln 4) = 2."""
    drawn = sample(torch.tensor([3.0]), torch.tensor([4.0]).log(), torch.tensor([-1.5]))
    assert drawn.item() == pytest.approx(0.0, abs=1e-6)


@pytest.fixture
def context(made_workspace: Workspace, tiny_flow: Path) -> Context:
    make_dataset(made_workspace)
    job = requests.train_job(made_workspace, settings(tiny_flow, steps=8), "cached")
    return Context(made_workspace, job.folder, job.settings, "cpu", lambda event: None, Control())


def test_cached_latents_are_those_of_the_turned_pictures(context: Context, tiny_flow: Path) -> None:
    """All eight orientations; float16 keeps eleven bits."""
    task = open_diffusion(context, settings(tiny_flow, steps=8))
    entries = [(picture, orientation) for picture in (0, 7) for orientation in range(8)]
    assert task._fill_latents(task.training, entries)
    mean, log_variance = task._moments(task.training, entries)
    with torch.inference_mode():
        direct = task.model.vae.encode(task.training.tensor(entries)).latent_dist
    assert torch.allclose(mean, direct.mean, rtol=2**-11, atol=1e-4)
    assert torch.allclose(log_variance, direct.logvar, rtol=2**-11)
    upright, flipped = task.training.pixels(7, 0), task.training.pixels(7, D4.index("flip"))
    assert np.array_equal(flipped, upright[:, :, ::-1])
    assert len({task.training.pixels(7, orientation).tobytes() for orientation in range(8)}) == 8


def test_the_deviation_is_scaled_with_the_mean(context: Context, tiny_flow: Path) -> None:
    """Stable Diffusion's UNet sees latents times 0.18215, so the noise in them is as much smaller."""
    task = open_diffusion(context, settings(tiny_flow, steps=8))
    assert task.prepare()
    plain = task._moments(task.training, [(0, task.draws(0)[0].orientation)])
    task.model.vae.register_to_config(scaling_factor=0.5)
    halved = task._moments(task.training, [(0, task.draws(0)[0].orientation)])
    assert torch.allclose(halved[0], plain[0] / 2)
    assert torch.allclose((halved[1] / 2).exp(), (plain[1] / 2).exp() / 2)
