from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoverboard.contract.signature import Array
from hoverboard.outliers import CalibrationFeatures, Features
from hoverboard.outliers.gaussian import fit_mahalanobis
from hoverboard.outliers.prepare import Preparation
from hoverboard.watch.grouping import Whitening, calibrated_radius, estimated_radius, group, whitening_of

NONE = np.empty((0, 2))


def clusters(count: int, each: int, *, seed: int = 1, spread: float = 0.1) -> tuple[Array, Array]:
    """Rows around centres on a grid of steps of 10, shuffled, and which centre each is of."""
    generator = np.random.default_rng(seed)
    of = generator.permutation(np.repeat(np.arange(count), each))
    centres = np.stack([of % 10, of // 10], axis=1) * 10.0
    return centres + generator.uniform(-spread, spread, (len(of), 2)), of


def one_by_one(rows: Array, radius: float, room: int) -> list[int]:
    """The rule as it is said, without a matrix product."""
    leaders: list[Array] = []
    places = []
    for row in rows:
        distances = [float(np.linalg.norm(row - leader)) for leader in leaders]
        if distances and min(distances) <= radius:
            places.append(int(np.argmin(distances)))
        elif len(leaders) < room:
            places.append(len(leaders))
            leaders.append(row)
        else:
            places.append(-1)
    return places


def test_each_cluster_has_one_leader_which_is_its_first_row() -> None:
    rows, of = clusters(12, 20)
    found = group(rows, NONE, 1.0, 100)
    assert len(found.founders) == 12
    assert [int(of[row]) for row in found.founders] == list(dict.fromkeys(of.tolist()))
    assert all(len(set(of[found.places == place])) == 1 for place in range(12))
    assert (found.distances[found.founders] == 0).all()
    assert (found.distances <= 0.3).all()


@given(st.integers(0, 2**32 - 1), st.integers(0, 60), st.floats(0.05, 3), st.integers(0, 12))
def test_it_is_what_the_rule_says_row_by_row(seed: int, count: int, radius: float, room: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(count, 2)) * 2
    assert group(rows, NONE, radius, room).places.tolist() == one_by_one(rows, radius, room)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 80), max_size=4), st.floats(0.05, 3))
def test_wherever_a_stream_is_cut_the_groups_are_the_same(seed: int, cuts: list[int], radius: float) -> None:
    rows = np.random.default_rng(seed).normal(size=(80, 2)) * 2
    leaders, places = NONE, []
    for part in np.split(rows, sorted(cuts)):
        found = group(part, leaders, radius, 1000)
        places += found.places.tolist()
        leaders = np.concatenate([leaders, part[found.founders]])
    assert places == group(rows, NONE, radius, 1000).places.tolist()


def test_what_is_stranger_may_vary_more() -> None:
    means = np.array([[0.0, 0], [10, 0]])
    whitening = Whitening(unit=False, centre=np.zeros(2), matrix=None, means=means, usual=2.0)
    assert whitening.stretch(np.array([[2.0, 0], [0, 10], [10, 4]])).tolist() == pytest.approx([1, 3.5, 1.4])
    rows = np.array([[0.0, 10], [0, 13.4], [0, 2], [0, 5.4]])
    assert group(rows, NONE, 1.0, 9, whitening.stretch).places.tolist() == [0, 0, 1, 2]
    assert group(rows[1:], rows[:1], 1.0, 9, whitening.stretch).places.tolist() == [0, 1, 2]


def test_a_row_joins_the_nearest_leader_and_not_the_first_within_reach() -> None:
    assert group(np.array([[0.9, 0.0]]), np.array([[0.0, 0.0], [1.0, 0.0]]), 1.0, 0).places.tolist() == [1]


def test_what_is_not_finite_or_beyond_the_room_joins_nothing() -> None:
    rows = np.array([[0.0, 0.0], [np.nan, 0.0], [9.0, 9.0], [0.1, 0.0]])
    found = group(rows, NONE, 1.0, 1)
    assert found.places.tolist() == [0, -1, -1, 0]
    assert found.founders.tolist() == [0]


def test_the_radius_is_twice_the_median_of_distances_to_nearest_others() -> None:
    as_it_is = Whitening(unit=False, centre=np.zeros(2), matrix=None)
    assert estimated_radius(np.array([[0.0, 0], [1, 0], [3, 0], [7, 0], [np.nan, 0]]), as_it_is) == 3.0
    assert estimated_radius(np.zeros((1, 2)), as_it_is) == 0.0


def calibration(z: list[float], classes: list[int]) -> CalibrationFeatures:
    rows = np.array([[each, 0] for each in z], np.float16)
    return CalibrationFeatures(rows, np.array(classes, np.int32), np.ones(len(z), np.bool_), len(z))


@pytest.mark.parametrize(
    ("z", "classes", "radius"),
    [
        pytest.param([0, 1, 50, 51.5, 90], [0, 0, 1, 1, 2], 1.5, id="the widest of a class"),
        pytest.param(
            [0, 1, 2, 2.5, 9], [0, 0, 0, 1, 2], 1.0, id="no farther than to another class, but its own median"
        ),
        pytest.param([0, 5, 7, 11.5], [0, 0, 1, 1], 4.75, id="classes that lie in each other"),
    ],
)
def test_the_radius_of_calibration_samples_is_within_their_class_and_not_in_the_next(
    z: list[float], classes: list[int], radius: float
) -> None:
    as_it_is = Whitening(unit=False, centre=np.zeros(2), matrix=None)
    assert calibrated_radius(calibration(z, classes), as_it_is) == pytest.approx(radius, abs=0.01)


def test_samples_that_are_alone_in_their_class_tell_no_radius() -> None:
    as_it_is = Whitening(unit=False, centre=np.zeros(2), matrix=None)
    assert calibrated_radius(calibration([0, 1], [0, 1]), as_it_is) is None


def test_rows_between_two_leaders_link_them_once_each() -> None:
    rows = np.array([[0.0, 0], [1.5, 0], [0.7, 0], [0.8, 0], [9, 0], [1.6, 0]])
    found = group(rows, NONE, 1.0, 100)
    assert found.founders.tolist() == [0, 1, 4]
    # What it joined comes first.
    assert sorted(zip(found.between.tolist(), found.links.tolist(), strict=True)) == [(2, [0, 1]), (3, [1, 0])]
    later = group(rows[2:], rows[:2], 1.0, 100)
    assert sorted(zip(later.between.tolist(), later.links.tolist(), strict=True)) == [(0, [0, 1]), (1, [1, 0])]


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 80), max_size=4), st.floats(0.05, 3))
def test_wherever_a_stream_is_cut_the_links_are_the_same(seed: int, cuts: list[int], radius: float) -> None:
    rows = np.random.default_rng(seed).normal(size=(80, 2)) * 2
    leaders, links = NONE, []
    for part in np.split(rows, sorted(cuts)):
        found = group(part, leaders, radius, 1000)
        links += found.links.tolist()
        leaders = np.concatenate([leaders, part[found.founders]])
    assert sorted(links) == sorted(group(rows, NONE, radius, 1000).links.tolist())


def test_outliers_that_are_all_on_their_own_do_not_become_one_group() -> None:
    z = np.random.default_rng(1).normal(size=(32, 64))
    whitening = whitening_of(None, 64)
    radius = estimated_radius(z, whitening)
    assert radius == 0.5
    assert len(group(whitening.apply(z), np.empty((0, 64)), radius, 100).founders) == 32


def test_without_a_published_covariance_only_the_direction_counts() -> None:
    whitening = whitening_of(None, 3)
    z = np.array([[1, 2, 2], [10, 20, 20], [0, 0, 0], [np.inf, 1, 1]], np.float16)
    rows = whitening.apply(z)
    assert rows[0] == pytest.approx([1 / 3, 2 / 3, 2 / 3])
    assert rows[1] == pytest.approx(rows[0])
    assert np.isnan(rows[2:]).all()


def test_whitened_rows_are_those_that_the_detector_measures() -> None:
    generator = np.random.default_rng(3)
    z = (generator.normal(size=(400, 4)) @ generator.normal(size=(4, 4))).astype(np.float32) + 3
    parameters = fit_mahalanobis(Features(z=z), None)
    whitening = Whitening(parameters.unit, parameters.centre.astype(float), parameters.matrix.astype(float))
    rows = whitening.apply(z)
    by_hand = Preparation(parameters.unit, parameters.centre, np.ones(4, np.float32)).apply(z) @ parameters.matrix
    assert rows == pytest.approx(by_hand, abs=1e-9)
    assert np.cov(rows.T) == pytest.approx(np.eye(4), abs=0.2)
