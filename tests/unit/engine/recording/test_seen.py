import numpy as np

from hoverboard.engine.recording.seen import REMEMBERED, Seen


def test_a_row_is_new_once() -> None:
    seen = Seen()
    rows = np.array([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]], np.float32)
    assert seen.fresh([rows]).tolist() == [True, True, False]
    assert seen.fresh([rows[1:]]).tolist() == [False, False]


def test_all_inputs_count() -> None:
    seen = Seen()
    words = np.array([b"a", b"b"], dtype=object)
    numbers = np.array([1, 1], np.int64)
    assert seen.fresh([words, numbers]).tolist() == [True, True]
    assert seen.fresh([words[::-1], numbers]).tolist() == [False, False]
    assert seen.fresh([words, numbers + 1]).tolist() == [True, True]


def test_equal_bytes_of_another_shape_are_another_row() -> None:
    seen = Seen()
    assert seen.fresh([np.zeros((1, 2, 3), np.float32)]).all()
    assert seen.fresh([np.zeros((1, 3, 2), np.float32)]).all()
    assert seen.fresh([np.zeros((2, 0, 3), np.float32)]).tolist() == [True, False]


def test_what_was_long_ago_is_forgotten_and_what_was_just_now_is_not() -> None:
    seen = Seen()
    numbers = np.arange(3 * REMEMBERED, dtype=np.int64)[:, np.newaxis]
    assert seen.fresh([numbers]).all()
    assert not seen.fresh([numbers[-REMEMBERED:]]).any()
    assert seen.fresh([numbers[:10]]).all()
