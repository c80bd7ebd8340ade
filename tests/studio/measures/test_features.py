from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from studio.errors import UsageError
from studio.files import sha256_of
from studio.measures.features import features_of, fid_inception, open_network, pooled
from tests.studio.measures.small_networks import inception_weights, make_starter


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_starter(tmp_path_factory.mktemp("starter"))


def pictures(count: int, size_px: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size_px, size_px, 3), dtype=np.uint8)


def test_the_starter_encoder_gives_the_moments_of_its_mean_latents(starter: Path) -> None:
    from diffusers import AutoencoderKL

    network = open_network("starter-encoder", starter=starter)
    vectors = network(pictures(3))

    autoencoder = AutoencoderKL.from_pretrained(starter / "vae")
    batch = torch.from_numpy(pictures(3)).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        latents = autoencoder.encode(batch).latent_dist.mean * autoencoder.config.scaling_factor
    cell = latents[1, 2, 0:2, 6:8]  # latents of 8 × 8 in cells of 2 × 2: first row, last column
    assert vectors.shape == (3, network.dimension) == (3, 2 * 16 * 12)
    assert vectors.dtype == np.float32
    assert vectors[1, 2 * 16 + 3] == pytest.approx(float(cell.mean()), abs=1e-5)
    assert vectors[1, 12 * 16 + 2 * 16 + 3] == pytest.approx(float(cell.std(correction=0)), abs=1e-4)


def test_the_starter_encoder_says_what_it_is(starter: Path) -> None:
    network = open_network("starter-encoder", starter=starter)

    assert network.name == "starter-encoder (not comparable with published FID)"
    assert network.weights_sha256 == sha256_of(starter / "vae" / "diffusion_pytorch_model.safetensors")
    assert not network.is_inception


def test_a_flat_cell_has_no_deviation() -> None:
    moments = pooled(torch.full((1, 2, 8, 8), 0.1))

    torch.testing.assert_close(moments[:, :32], torch.full((1, 32), 0.1))
    torch.testing.assert_close(moments[:, 32:], torch.zeros(1, 32), atol=1e-3, rtol=0)


def test_pictures_come_as_a_stream_and_batches_change_nothing(starter: Path) -> None:
    network = open_network("starter-encoder", starter=starter)

    streamed = features_of(network, iter(pictures(5)), batch=2)

    np.testing.assert_allclose(streamed, network(pictures(5)), atol=1e-5)
    assert features_of(network, iter(())).shape == (0, network.dimension)


def test_inception_averages_inside_the_picture_and_takes_the_largest_at_the_end() -> None:
    weights = inception_weights(seed=1)
    network = fid_inception(weights).eval()
    x = torch.randn(1, 192, 9, 9, generator=torch.Generator().manual_seed(2))

    with torch.inference_mode():
        last_branch = network.Mixed_5b(x)[:, -32:]
        inside = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        expected = network.Mixed_5b.branch_pool(inside)

        y = torch.randn(1, 2048, 8, 8, generator=torch.Generator().manual_seed(3))
        largest = network.Mixed_7c.branch_pool(functional.max_pool2d(y, 3, 1, 1))
        averaged = network.Mixed_7b.branch_pool(functional.avg_pool2d(y[:, :1280], 3, 1, 1, count_include_pad=False))

        torch.testing.assert_close(last_branch, expected)
        torch.testing.assert_close(network.Mixed_7c(y)[:, -192:], largest)
        torch.testing.assert_close(network.Mixed_7b(y[:, :1280])[:, -192:], averaged)


def test_inception_takes_tiles_of_any_size_and_says_what_it_is(tmp_path: Path) -> None:
    file = tmp_path / "inception.safetensors"
    save_file(inception_weights(seed=1, classes=1008), file)

    network = open_network(f"inception:{file}")

    assert network(pictures(1)).shape == (1, 2048)
    assert network.is_inception
    assert network.weights_sha256 == sha256_of(file)


def test_weights_of_torchvision_are_not_called_fid(tmp_path: Path) -> None:
    file = tmp_path / "imagenet.safetensors"
    save_file({"fc.weight": torch.zeros(1000, 2048)}, file)

    with pytest.raises(UsageError, match="1000 classes"):
        open_network(f"inception:{file}")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_file({"conv1.weight": torch.zeros(64, 3, 7, 7)}, file)

    with pytest.raises(UsageError, match="do not fit Inception"):
        open_network(f"inception:{file}")


def test_a_pickle_renamed_is_refused_without_being_run(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    torch.save({"fc.weight": torch.zeros(2)}, file)

    with pytest.raises(UsageError, match="not a safetensors file"):
        open_network(f"inception:{file}")


@pytest.mark.parametrize("name", ["starter-encodr", "inception:", "resnet"])
def test_an_unknown_network_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no feature network"):
        open_network(name)


def test_a_starter_that_is_not_installed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no weights"):
        open_network("starter-encoder", starter=tmp_path)
