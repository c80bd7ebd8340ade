from collections import Counter

import numpy as np
import torch

from studio.training.batches import CLASS_CAPTION, NO_CAPTION, Draw, draws, noise_generator, split_for_validation

CAPTIONS = [2, 1, 0, 5, 3, 2, 2]


def drawn(seed: int, steps: range, count: int = 3, dropout: float = 0.0, classes: float = 0.0) -> list[Draw]:
    return [draw for step in steps for draw in draws(seed, step, count, CAPTIONS, 8, dropout, classes)]


def test_every_picture_comes_once_in_each_epoch() -> None:
    """Seven pictures, three a step: epochs end in the middle of steps."""
    pictures = [draw.picture for draw in drawn(1, range(7))]
    epochs = [pictures[start : start + 7] for start in (0, 7, 14)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_a_draw_is_a_function_of_seed_and_step() -> None:
    whole = [draws(1, step, 3, CAPTIONS, 8, 0.1, 0.2) for step in range(50)]
    assert [draws(1, step, 3, CAPTIONS, 8, 0.1, 0.2) for step in reversed(range(50))] == whole[::-1]
    assert [draws(2, step, 3, CAPTIONS, 8, 0.1, 0.2) for step in range(50)] != whole


def test_captions_are_those_that_a_picture_has() -> None:
    for draw in drawn(3, range(200)):
        assert (
            draw.caption == NO_CAPTION if CAPTIONS[draw.picture] == 0 else draw.caption in range(CAPTIONS[draw.picture])
        )


def test_shares_are_as_told() -> None:
    found = Counter(draw.caption for draw in drawn(4, range(3000), dropout=0.1, classes=0.25) if draw.picture == 3)
    total = sum(found.values())
    assert abs(found[NO_CAPTION] / total - 0.1) < 0.03
    assert abs(found[CLASS_CAPTION] / total - 0.9 * 0.25) < 0.04
    assert all(abs(found[caption] / total - 0.9 * 0.75 / 5) < 0.03 for caption in range(5))
    turned = Counter(draw.orientation for draw in drawn(4, range(3000)))
    assert sorted(turned) == list(range(8))
    assert max(turned.values()) < 1.2 * min(turned.values())


def test_noise_is_a_function_of_seed_and_step() -> None:
    def noise(*place: int) -> torch.Tensor:
        return torch.randn(8, generator=noise_generator(*place))

    assert torch.equal(noise(1, 5), noise(1, 5))
    others = [noise(1, 6), noise(2, 5), noise(1, 2**62)]
    assert not any(torch.equal(noise(1, 5), other) for other in others)
    assert noise(2**63 - 1, 5).shape == (8,)


def test_what_is_put_aside_is_not_trained_on() -> None:
    kept, aside = split_for_validation(50, 64, seed=1)
    assert sorted(kept + aside) == list(range(50))
    assert len(aside) == 5
    assert split_for_validation(50, 64, seed=1) == (kept, aside)
    assert len(split_for_validation(50, 2, seed=1)[1]) == 2
    assert split_for_validation(1, 64, seed=1) == ([0], [])


def test_global_random_numbers_are_left_alone() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    drawn(5, range(3))
    torch.randn(3, generator=noise_generator(1, 2))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]
