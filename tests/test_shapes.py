"""Size rules against counting, for many sizes."""

import itertools

import pytest

from keras_deconv import _shapes
from tests import oracles

pytestmark = pytest.mark.backend

GRID = list(
    itertools.product(range(1, 13), range(1, 5), range(1, 5), ["valid", "same"])
)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_lengths_agree_with_the_windows_that_are_there(padding):
    for length, window, stride, rule in GRID:
        if rule != padding:
            continue
        starts = oracles.window_starts(length, window, stride, padding)
        num_windows = _shapes.pooled_length(length, window, stride, padding)
        assert num_windows == len(starts)
        if not num_windows:
            continue
        before = _shapes.padding_before(
            length, num_windows, window, stride, padding
        )
        assert before == -starts[0]
        smallest, largest = _shapes.lengths_before_pooling(
            num_windows, window, stride, padding
        )
        assert smallest <= length <= largest
        for other in (smallest, largest):
            if other > 0:
                assert num_windows == _shapes.pooled_length(
                    other, window, stride, padding
                )
        assert num_windows != _shapes.pooled_length(
            largest + 1, window, stride, padding
        )
        restored = _shapes.unpooled_length(num_windows, window, stride, padding)
        assert smallest <= restored <= largest


def test_unknown_stays_unknown():
    window = ((2, 2), (2, 2), "same")
    assert _shapes.pooled_size((None, 45), *window) == (None, 23)
    assert _shapes.unpooled_size((None, 23), *window) == (None, 46)
    _shapes.check_unpooled_size((None, 45), (None, 23), *window)
    _shapes.check_unpooled_size((45, None), (23, 23), *window)
    with pytest.raises(ValueError, match="any x 45 to 46"):
        _shapes.check_unpooled_size((None, 44), (None, 23), *window)
