from pathlib import Path

import numpy as np
import pytest
import torch

from studio import requests
from studio.context import Context
from studio.control import Control
from studio.models.load import Conditioning
from studio.settings import D4
from studio.training.cache import LatentCache, TextCache, sample
from studio.training.opening import open_diffusion
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
        assert list(cache.fill(cache.missing(ENTRIES), encoded)) == [16, 16, 8]
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


def embedded(texts: list[str]) -> Conditioning:
    numbers = torch.tensor([float(text.split()[1]) for text in texts])
    return Conditioning(numbers.view(-1, 1, 1).expand(-1, 2, 3), -numbers.view(-1, 1).expand(-1, 4))


TEXTS = [f"text {number}" for number in range(20)]


class TestTexts:
    def test_each_caption_is_embedded_once_whatever_list_it_is_in(self, tmp_path: Path) -> None:
        cache = TextCache(tmp_path)
        with pytest.raises(RuntimeError, match="before it was filled"):
            cache.embeddings(["text 3"])
        assert list(cache.fill(cache.missing(TEXTS), embedded)) == [16, 4]
        again = TextCache(tmp_path)
        assert again.missing(TEXTS[3:]) == []
        assert list(again.fill(again.missing([*TEXTS, "text 99"]), embedded)) == [5]
        text = again.embeddings(["text 19", "text 99", "text 3"])
        assert text.states.shape == (3, 2, 3)
        assert text.states[:, 1, 2].tolist() == [19, 99, 3]
        assert text.pooled is not None
        assert text.pooled[:, 3].tolist() == [-19, -99, -3]

    def test_models_with_one_text_encoder_have_no_pooled_vector(self, tmp_path: Path) -> None:
        cache = TextCache(tmp_path)
        list(cache.fill(cache.missing(TEXTS), lambda texts: Conditioning(embedded(texts).states)))
        assert TextCache(tmp_path).embeddings(TEXTS[:2]).pooled is None

    def test_embedding_goes_on_where_it_was_cut_off(self, tmp_path: Path) -> None:
        cache = TextCache(tmp_path)
        batches = cache.missing(TEXTS)
        next(iter(cache.fill(batches, embedded)))
        with (tmp_path / "embeddings.f32").open("ab") as records, (tmp_path / "captions.sha256").open("ab") as digests:
            records.write(b"a record whose digest was never written")
            digests.write(b"half a digest")
        again = TextCache(tmp_path)
        assert again.missing(TEXTS) == batches[1:]
        list(again.fill(batches[1:], embedded))
        assert TextCache(tmp_path).embeddings(TEXTS).states[:, 0, 0].tolist() == list(range(20))

    def test_two_runs_fill_it_at_the_same_time(self, tmp_path: Path) -> None:
        first, second = TextCache(tmp_path), TextCache(tmp_path)
        batches = first.missing(TEXTS)
        for _ in zip(first.fill(batches, embedded), second.fill(batches, embedded), strict=True):
            pass
        for cache in (TextCache(tmp_path), first, second):
            assert cache.embeddings(TEXTS).states[:, 0, 0].tolist() == list(range(20))


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
    """All eight orientations, one by one."""
    task = open_diffusion(context, settings(tiny_flow, steps=8))
    entries = [(picture, orientation) for picture in (0, 7) for orientation in range(8)]
    assert task.encodings.fill_latents(task.training, entries)
    mean, log_variance = task.encodings.moments(task.training, entries)
    with torch.inference_mode():
        pixels = task.training.tensor(entries)
        direct = [task.model.vae.encode(one).latent_dist for one in pixels.split(1)]
    assert torch.allclose(mean, torch.cat([one.mean for one in direct]), atol=1e-6)
    assert torch.allclose(log_variance, torch.cat([one.logvar for one in direct]), atol=1e-6)
    upright, flipped = task.training.pixels(7, 0), task.training.pixels(7, D4.index("flip"))
    assert np.array_equal(flipped, upright[:, :, ::-1])
    assert len({task.training.pixels(7, orientation).tobytes() for orientation in range(8)}) == 8
