from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from studio.models.principal_components import PATCH_PX, principal_component_autoencoder, principal_components


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Smooth noise, whose components differ in strength, in [-1, 1]."""
    random = np.random.default_rng(0)
    steps = random.normal(0, 0.05, (20, 3, 32, 32)).cumsum(2).cumsum(3)
    return np.tanh(steps - steps.mean(axis=(2, 3), keepdims=True)).astype(np.float32)


def projected(pictures: np.ndarray, mean: np.ndarray, projection: np.ndarray) -> np.ndarray:
    """The latent by hand, patch after patch."""
    n, _, height, width = pictures.shape
    latent = np.empty((n, len(projection), height // PATCH_PX, width // PATCH_PX))
    for row in range(height // PATCH_PX):
        for column in range(width // PATCH_PX):
            y, x = row * PATCH_PX, column * PATCH_PX
            patch = pictures[:, :, y : y + PATCH_PX, x : x + PATCH_PX].reshape(n, -1)
            latent[:, :, row, column] = (patch - mean) @ projection.T
    return latent


@pytest.mark.parametrize(("count", "channels"), [(12, (32, 64, 96)), (4, (16, 24, 32))])
def test_the_encoder_is_the_projection(
    count: int, channels: tuple[int, int, int], pictures: np.ndarray, tmp_path: Path
) -> None:
    mean, projection = principal_components(pictures, count)
    vae = principal_component_autoencoder(mean, projection, channels, 32)
    with torch.inference_mode():
        posterior = vae.encode(torch.from_numpy(pictures)).latent_dist
    by_hand = projected(pictures, mean, projection)
    assert np.abs(posterior.mean.numpy() - by_hand).max() < 1e-2
    assert torch.allclose(posterior.logvar, torch.tensor(-12.0))
    assert by_hand.std() == pytest.approx(1, abs=0.02)  # as a whole, which is what scaling_factor = 1 says
    vae.save_pretrained(tmp_path / "vae")
    again = AutoencoderKL.from_pretrained(tmp_path / "vae", local_files_only=True)
    with torch.inference_mode():
        assert torch.equal(again.encode(torch.from_numpy(pictures)).latent_dist.mean, posterior.mean)
        assert again.decode(posterior.mean).sample.shape == pictures.shape


def test_only_the_decoder_can_learn(pictures: np.ndarray) -> None:
    vae = principal_component_autoencoder(*principal_components(pictures, 4), (16, 24, 32), 32)
    learning = {name.partition(".")[0] for name, one in vae.named_parameters() if one.requires_grad}
    assert learning == {"decoder", "post_quant_conv"}


def test_components_are_those_of_the_singular_values(pictures: np.ndarray) -> None:
    """Against numpy's SVD: the same directions, whitened by the deviation to the power 0.6."""
    mean, projection = principal_components(pictures, 5)
    grid = pictures.reshape(20, 3, 8, 4, 8, 4).transpose(0, 2, 4, 1, 3, 5).reshape(-1, 48).astype(np.float64)
    assert np.allclose(mean, grid.mean(axis=0))
    _, values, directions = np.linalg.svd(grid - mean, full_matrices=False)
    deviations = values[:5] / np.sqrt(len(grid) - 1)
    lengths = np.linalg.norm(projection, axis=1)
    alike = np.abs((projection / lengths[:, None]) @ directions[:5].T)
    assert np.allclose(alike, np.eye(5), atol=1e-6)
    assert np.allclose(lengths / lengths[0], (deviations / deviations[0]) ** -0.6)
