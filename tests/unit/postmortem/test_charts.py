"""What charts need: counts by time, distributions, and inputs that are images."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
import pytest

from hoverboard.contract.signature import Signature, TensorSpec
from hoverboard.postmortem.causes import NOTHING_USUAL
from hoverboard.postmortem.charts import histograms, timeline
from hoverboard.postmortem.pictures import image_of, picture
from hoverboard.postmortem.slices import ExplainedSlice
from hoverboard.postmortem.table import BinnedCounts, Event, Field, Table

MINUTE = 60_000_000


def test_a_long_time_is_told_in_few_bins_that_have_all_rows() -> None:
    rows = np.r_[np.zeros(100), np.full(1340, 5.0)]
    counts = BinnedCounts(np.arange(1440, dtype=np.int64) * MINUTE, rows, rows / 5)
    told = timeline(counts, None, [])
    assert len(told.at) <= 240
    assert (sum(told.rows), sum(told.bad)) == (6700, 1340)
    assert told.at[0].timestamp() == 100 * 60  # nothing is known of the time before
    assert told.bin_s == 360


def test_of_many_events_those_that_may_explain_something_are_told_in_order() -> None:
    counts = BinnedCounts(np.arange(10, dtype=np.int64) * MINUTE, np.ones(10), np.zeros(10))
    events = [Event(at * MINUTE, "start", f"engine-{at}") for at in range(20)] + [
        Event(5, "deployment", "4"),
        Event(6, "issue_new", "issue 1"),
    ]
    told = timeline(counts, None, events).events
    assert len(told) == 9
    assert {each.kind for each in told} == {"deployment", "start"}  # issues come of what is looked for
    assert [each.at for each in told] == sorted(each.at for each in told)


def table(codes: np.ndarray, values: tuple[str, ...]) -> Table:
    rows = len(codes)
    base = np.arange(rows) < rows // 2
    return Table(
        np.arange(rows, dtype=np.int64),
        ~base,
        base,
        np.ones(rows),
        np.zeros(rows, np.int32),
        (Field("input colour", "input", values, codes.astype(np.uint8)),),
        np.frombuffer(bytes(16 * rows), "V16"),
    )


def test_the_features_that_differ_are_told_value_by_value() -> None:
    told = histograms(table(np.repeat([1, 2], 50), ("absent", "red", "blue")), [], [NOTHING_USUAL])
    assert [(each.field, list(each.values), list(each.usual), list(each.bad)) for each in told] == [
        ("input colour", ["red", "blue"], [1.0, 0.0], [0.0, 1.0])
    ]
    alike = table(np.tile([1, 2], 50), ("absent", "red", "blue"))
    assert histograms(alike, [], [NOTHING_USUAL]) == []
    named = ExplainedSlice((("input colour", "red"),), 1, 1, 1, 1, 1, 0)
    assert len(histograms(alike, [named], [NOTHING_USUAL])) == 1  # a slice is about it


def test_of_many_values_the_rest_is_told_together() -> None:
    codes = np.r_[np.arange(200) % 200, np.full(200, 7)]
    told = histograms(table(codes, ("absent", *(f"v{at}" for at in range(1, 200)))), [], [NOTHING_USUAL])[0]
    assert len(told.values) == 20
    assert told.values[-1] == "all others"
    assert sum(told.usual) == pytest.approx(1, abs=1e-3)
    assert sum(told.bad) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "is_image"),
    [
        ("pixels", (64,), "float32", True),
        ("amounts", (64,), "float32", False),
        ("pixels", (65,), "float32", False),
        ("x", (28, 28), "uint8", True),
        ("x", (28, 28, 3), "uint8", True),
        ("x", (28, 28, 2), "uint8", False),
        ("image", (), "string", False),
        ("image", (None, 8), "float32", False),
    ],
)
def test_which_inputs_are_images(name: str, shape: tuple[int | None, ...], dtype: str, is_image: bool) -> None:
    found = image_of(Signature("raw", (TensorSpec(name, dtype, shape),), ()))
    assert (found is not None) is is_image


def test_a_picture_has_the_pixels_that_were_sent() -> None:
    spec = TensorSpec("pixels", "float32", (64,), min=0, max=16)
    address = picture(spec, np.arange(64) % 17)
    file = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    assert struct.unpack(">IIBB", file[16:26]) == (8, 8, 8, 0)
    size = struct.unpack(">I", file[33:37])[0]
    rows = np.frombuffer(zlib.decompress(file[41 : 41 + size]), np.uint8).reshape(8, 9)
    assert not rows[:, 0].any()
    assert rows[:, 1:].ravel().tolist() == np.round((np.arange(64) % 17) / 16 * 255).tolist()
    large = picture(TensorSpec("x", "uint8", (500, 300, 3)), np.zeros((500, 300, 3)))
    assert struct.unpack(">II", base64.b64decode(large.partition(",")[2])[16:24]) == (50, 84)
