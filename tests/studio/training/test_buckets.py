from collections import Counter

from studio.training.batches import bucket_of, draws, turns_by_a_quarter
from studio.training.buckets import bucket_shapes, members, nearest_shape

BUCKETS = [list(range(0, 7)), [7, 8], [9]]
CAPTIONS = [1] * 10


def test_shapes_are_of_about_one_area() -> None:
    shapes = bucket_shapes(256, 64)
    assert shapes[0] == (256, 256)
    tall = [(320, 192), (384, 128), (448, 128), (512, 128)]
    assert set(shapes[1:]) == {*tall, *((width, height) for height, width in tall)}
    assert all(0.5 <= height * width / 256**2 <= 1 for height, width in shapes)
    # The square is there even where its side is no multiple of the step.
    assert bucket_shapes(224, 64)[0] == (224, 224)


def test_a_picture_goes_where_least_is_cut_off() -> None:
    shapes = bucket_shapes(256, 64)
    assert nearest_shape(600, 600, shapes) == (256, 256)
    assert nearest_shape(600, 1000, shapes) == (192, 320)
    assert nearest_shape(100, 9000, shapes) == (128, 512)
    assert nearest_shape(768, 1024, shapes) == (192, 320)


def test_pictures_of_one_shape_are_together() -> None:
    assert members([(2, 1), (1, 2), (2, 1)]) == [[1], [0, 2]]


def drawn(step: int, count: int = 3) -> list[int]:
    return [one.picture for one in draws(5, step, count, CAPTIONS, 8, 0.0, 0.0, BUCKETS)]


def test_a_step_is_of_one_bucket_and_none_is_left_out() -> None:
    """Seven, two and one pictures in threes: 3 + 1 + 1 steps an epoch, in which each picture comes at least once."""
    for epoch in range(4):
        steps = [drawn(step) for step in range(5 * epoch, 5 * epoch + 5)]
        of = [next(index for index, bucket in enumerate(BUCKETS) if step[0] in bucket) for step in steps]
        assert all(set(step) <= set(BUCKETS[index]) for step, index in zip(steps, of, strict=True))
        assert Counter(of) == {0: 3, 1: 1, 2: 1}
    first = Counter(picture for step in range(5) for picture in drawn(step))
    assert set(first) == set(range(10))
    # Over three epochs a bucket of seven has nine batches of three: each picture came three or four times.
    many = Counter(picture for step in range(15) for picture in drawn(step))
    assert {many[picture] for picture in BUCKETS[0]} <= {3, 4}


def test_the_bucket_follows_from_seed_and_step() -> None:
    assert [drawn(step) for step in reversed(range(20))] == [drawn(step) for step in range(20)][::-1]
    orders = [
        tuple(bucket_of(5, step, 3, BUCKETS)[0] for step in range(5 * epoch, 5 * epoch + 5)) for epoch in range(9)
    ]
    assert len(set(orders)) > 1
    batches = [bucket_of(5, step, 3, BUCKETS) for step in range(50)]
    assert [batch for bucket, batch in batches if bucket == 0] == list(range(30))


def test_a_step_turns_all_its_pictures_by_a_quarter_or_none() -> None:
    turns = [turns_by_a_quarter(1, step, 0.5) for step in range(2000)]
    assert abs(sum(turns) / 2000 - 0.5) < 0.04
    assert not any(turns_by_a_quarter(1, step, 0.0) for step in range(50))
    assert all(turns_by_a_quarter(1, step, 1.0) for step in range(50))
