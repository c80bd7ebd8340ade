import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import compute_snr

from studio.errors import UsageError
from studio.training.objective import (
    alphas_cumprod,
    draw_timesteps,
    even_timesteps,
    min_snr_weights,
    noised,
    with_offset,
)

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
TIMES = torch.tensor([0.0, 0.0005, 0.25, 0.5, 0.9999])
STEPS = torch.tensor([0, 0, 250, 500, 999])


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return torch.randn(5, 4, 3, 3, generator=random), torch.randn(5, 4, 3, 3, generator=random)


@pytest.mark.parametrize("schedule", ["scaled_linear", "linear"])
def test_the_noise_schedule_is_diffusers(schedule: str) -> None:
    settings = SD | {"beta_schedule": schedule}
    reference = DDPMScheduler(**settings).alphas_cumprod
    assert torch.equal(alphas_cumprod(settings), reference)


def test_a_schedule_that_is_not_known_is_refused() -> None:
    with pytest.raises(UsageError, match="squaredcos_cap_v2"):
        alphas_cumprod(SD | {"beta_schedule": "squaredcos_cap_v2"})
    with pytest.raises(UsageError, match="trained_betas"):
        alphas_cumprod(SD | {"trained_betas": [0.1, 0.2]})
    with pytest.raises(UsageError, match="rescale_betas_zero_snr"):
        alphas_cumprod(SD | {"rescale_betas_zero_snr": True})


@pytest.mark.parametrize("objective", ["epsilon", "v"])
def test_noise_is_added_as_diffusers_does(objective: str, pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    latents, noise = pair
    reference = DDPMScheduler(**SD)
    inputs, steps, target = noised(objective, latents, noise, TIMES, alphas_cumprod(SD))
    assert torch.equal(steps, STEPS)
    assert torch.allclose(inputs, reference.add_noise(latents, noise, STEPS), atol=1e-5)
    wanted = noise if objective == "epsilon" else reference.get_velocity(latents, noise, STEPS)
    assert torch.allclose(target, wanted, atol=1e-5)


def test_a_flow_goes_straight_from_picture_to_noise() -> None:
    """By hand: a quarter of the way from 2 to -2 is 1, seen at step 250, and the way is -4 long."""
    latents, noise = torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), -2.0)
    inputs, steps, target = noised("flow", latents, noise, torch.tensor([0.25]), torch.empty(0))
    assert (inputs.item(), steps.item(), target.item()) == (1.0, 250.0, -4.0)


def test_a_flow_is_diffusers_flow(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    latents, noise = pair
    reference = FlowMatchEulerDiscreteScheduler()
    times = reference.timesteps[[0, 200, 500, 700, 999]] / 1000
    inputs, steps, target = noised("flow", latents, noise, times, torch.empty(0))
    assert torch.allclose(inputs, reference.scale_noise(latents, steps, noise), atol=1e-5)
    assert torch.equal(target, noise - latents)


def test_timesteps_are_drawn_as_the_objective_wants() -> None:
    random = torch.Generator().manual_seed(0)
    uniform, logit_normal = (draw_timesteps(objective, 20_000, random) for objective in ("epsilon", "flow"))
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert uniform.quantile(0.25).item() == pytest.approx(0.25, abs=0.01)
    # The logistic function of a standard normal's lower quartile, -0.6745.
    assert logit_normal.quantile(0.25).item() == pytest.approx(0.3375, abs=0.01)
    assert even_timesteps(4).tolist() == [0.125, 0.375, 0.625, 0.875]


@pytest.mark.parametrize("objective", ["epsilon", "v"])
def test_min_snr_weights_are_those_of_diffusers_scripts(objective: str) -> None:
    """As in train_text_to_image.py: the smaller of the ratio and gamma, over the ratio, for v over the ratio + 1."""
    ratio = compute_snr(DDPMScheduler(**SD), STEPS)
    least = torch.stack([ratio, torch.full_like(ratio, 5.0)], dim=1).min(dim=1)[0]
    wanted = least / (ratio if objective == "epsilon" else ratio + 1)
    assert torch.allclose(min_snr_weights(objective, TIMES, alphas_cumprod(SD), 5.0), wanted, rtol=1e-4)


def test_offset_noise_moves_a_picture_as_a_whole() -> None:
    noise, offsets = torch.zeros(1, 2, 2, 2), torch.tensor([1.0, -2.0]).view(1, 2, 1, 1)
    assert with_offset(noise, offsets, 0.1).flatten().tolist() == pytest.approx([0.1] * 4 + [-0.2] * 4)
