import pytest
import torch
from torch import nn

from studio.settings import OptimiserSettings
from studio.training import optimisers
from studio.training.averaging import MovingAverage


def rates(**told: object) -> list[float]:
    settings = OptimiserSettings.model_validate({"learning_rate": 1.0} | told)
    return [optimisers.learning_rate(settings, step) for step in range(settings.steps)]


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ({"steps": 3}, [1, 1, 1]),
        ({"steps": 5, "warmup_steps": 4}, [0.25, 0.5, 0.75, 1, 1]),
        ({"steps": 4, "schedule": "linear"}, [1, 0.75, 0.5, 0.25]),
        ({"steps": 4, "schedule": "cosine"}, [1, 0.8535534, 0.5, 0.1464466]),
        ({"steps": 6, "schedule": "linear", "warmup_steps": 2}, [0.5, 1, 1, 0.75, 0.5, 0.25]),
        ({"steps": 6, "schedule": "linear", "fall_from": 0.5}, [1, 1, 1, 1, 2 / 3, 1 / 3]),
        ({"steps": 2, "schedule": "cosine", "warmup_steps": 5}, [0.2, 0.4]),
    ],
)
def test_the_step_size_over_time_by_hand(told: dict[str, object], wanted: list[float]) -> None:
    assert rates(**told) == pytest.approx(wanted)


def test_one_step_is_the_papers() -> None:
    """Loshchilov and Hutter 2019: the first step goes by the whole rate against the gradient's sign, after decay."""
    parameters = {"a": nn.Parameter(torch.tensor([2.0, -2.0]))}
    optimiser = optimisers.adamw(parameters, OptimiserSettings(learning_rate=0.1, weight_decay=0.5))
    parameters["a"].grad = torch.tensor([3.0, -0.001])
    optimiser.step()
    assert parameters["a"].tolist() == pytest.approx([2 * 0.95 - 0.1, -2 * 0.95 + 0.1], abs=1e-4)


@pytest.mark.parametrize("name", ["adamw", "adamw8bit", "adafactor", "prodigy"])
def test_the_state_comes_back_bit_for_bit(name: str) -> None:
    """A matrix large enough for eight bits, a vector, and a weight that begins at nothing."""
    library = {"adamw8bit": "bitsandbytes", "prodigy": "prodigyopt"}.get(name)
    if library:
        pytest.importorskip(library, reason=f"{library} is an extra.")
    random = torch.Generator().manual_seed(0)
    settings = OptimiserSettings.model_validate({"name": name, "learning_rate": 0.1})

    def stepped(optimiser: torch.optim.Optimizer, parameters: dict[str, nn.Parameter], seed: int) -> None:
        gradients = torch.Generator().manual_seed(seed)
        for one in parameters.values():
            one.grad = torch.randn(one.shape, generator=gradients)
        optimiser.step()

    shapes = {"a.weight": (80, 70), "b": (5,)}
    first = {key: nn.Parameter(torch.randn(shape, generator=random)) for key, shape in shapes.items()}
    first["c"] = nn.Parameter(torch.zeros(4, 3))
    whole = optimisers.optimiser_for(first, settings)
    for seed in range(3):
        stepped(whole, first, seed)
    second = {key: nn.Parameter(one.detach().clone()) for key, one in first.items()}
    again = optimisers.optimiser_for(second, settings)
    kept = {key: one.clone() for key, one in optimisers.state_tensors(whole, first).items()}
    optimisers.restore(again, second, kept)
    for seed in range(3, 6):
        stepped(whole, first, seed)
        stepped(again, second, seed)
    assert all(torch.equal(first[key], second[key]) for key in first)


class TestMovingAverage:
    def test_it_follows_by_hand(self) -> None:
        """At steps 0 and 1 the decays are 1/10 and 2/11, below the 0.5 asked for."""
        parameters = {"a": nn.Parameter(torch.tensor([1.0]))}
        average = MovingAverage(parameters, 0.5)
        for step, value in enumerate((2.0, 3.0)):
            parameters["a"].data.fill_(value)
            average.update(parameters, step)
        after_one = 0.1 * 1 + 0.9 * 2
        assert average.averages["a"].item() == pytest.approx(2 / 11 * after_one + 9 / 11 * 3)
        average.update(parameters, 10_000)
        assert average.averages["a"].item() == pytest.approx(0.5 * (2 / 11 * after_one + 9 / 11 * 3) + 0.5 * 3)

    def test_it_stands_in_and_steps_back(self) -> None:
        parameters = {"a": nn.Parameter(torch.tensor([1.0]))}
        average = MovingAverage(parameters, 0.9)
        parameters["a"].data.fill_(5.0)
        with average.applied(parameters):
            assert parameters["a"].item() == 1.0
        assert parameters["a"].item() == 5.0

    def test_it_steps_back_from_a_failure_too(self) -> None:
        parameters = {"a": nn.Parameter(torch.tensor([1.0]))}
        average = MovingAverage(parameters, 0.9)
        parameters["a"].data.fill_(5.0)

        def fail() -> None:
            with average.applied(parameters):
                raise OSError

        with pytest.raises(OSError):  # noqa: PT011 - raised by the line above
            fail()
        assert parameters["a"].item() == 5.0
