"""Steps are taken with the whole effective batch, and begin before everything is encoded."""

from studio.training.stepping import portion


def test_portions_grow_from_one_step_to_64() -> None:
    assert [portion(step, 1000) for step in (0, 1, 2, 3, 4, 40, 63, 64, 200)] == [
        range(1), range(1, 2), range(2, 4), range(2, 4), range(4, 8), range(32, 64), range(32, 64),
        range(64, 128), range(192, 256),
    ]  # fmt: skip


def test_every_step_is_in_its_portion_and_in_no_other() -> None:
    portions = {portion(step, 333) for step in range(333)}
    assert sorted(step for one in portions for step in one) == list(range(333))
    assert all(step in portion(step, 333) for step in range(333))
