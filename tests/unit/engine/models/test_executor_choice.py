"""Which way to run a graph is taken, given what each answers and how long each takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from hoverboard.backends.executor import Executor
from hoverboard.backends.graph import Way
from hoverboard.contract.catalog import BucketTiming
from hoverboard.contract.signature import Array, Signature
from hoverboard.engine.models.executor_choice import Chooser
from hoverboard.engine.models.golden_batches import Company
from hoverboard.engine.models.timings import Measured
from hoverboard.errors import VersionRefused
from hoverboard.versions import GoldenSample, GoldenSet
from tests.unit.engine.fakes import INPUT, OUTPUT, Doubling

SIGNATURE = Signature("raw", (INPUT,), (OUTPUT,))
X = np.array([[1.0, 2.0]], np.float32)
GOLDEN = GoldenSet((GoldenSample((X,), (2 * X,)),))


class Timed(Doubling):
    """Doubles, in so many seconds by bucket; a row more costs as much as the first where nothing else is said."""

    def __init__(
        self, name: str = "plain", seconds: Callable[[int], float] = lambda size: 0.001 * size, **more: Any
    ) -> None:
        super().__init__(**more)
        self.name, self.seconds, self.timed = name, seconds, 0


class Tripling(Timed):
    def run(self, columns: Sequence[Array]) -> list[Array]:
        return [1.5 * output for output in super().run(columns)]


class Centring(Timed):
    """Takes the batch's mean into account, as batch statistics do."""

    def run(self, columns: Sequence[Array]) -> list[Array]:
        (y,) = super().run(columns)
        return [y - (y.mean(axis=0) - y[:1])]


def _timed(executor: Executor, columns: Sequence[Array]) -> float:
    assert isinstance(executor, Timed)
    executor.timed += 1
    return executor.seconds(len(columns[0]))


def chooser(largest: int = 4) -> Chooser:
    company = Company(SIGNATURE, GOLDEN)
    return Chooser(SIGNATURE, GOLDEN, company, largest, lambda job: job(), timed=_timed)


def choose(plain: Timed, ways: Mapping[str, Way] | None = None, known: Measured | None = None, largest: int = 4) -> Any:
    return chooser(largest).choose(lambda: plain, ways or {}, known)


def way(executor: Timed, margin: float = 1.0) -> dict[str, Way]:
    return {executor.name: Way(lambda: executor, margin)}


def test_the_plain_way_is_taken_where_there_is_no_other() -> None:
    chosen = choose(plain := Timed())
    assert chosen.executor is plain
    assert [(timing.size, timing.mean_ms) for timing in chosen.timings] == [(1, 1.0), (2, 2.0), (4, 4.0)]


@pytest.mark.parametrize(("seconds", "taken"), [(0.0004, "other"), (0.0006, "plain")])
def test_another_way_is_taken_only_below_its_share_of_the_time(seconds: float, taken: str) -> None:
    other = Timed("other", lambda size: seconds * size)
    assert choose(Timed(), way(other, 0.5)).executor.name == taken


def test_the_last_way_must_beat_the_best_so_far_and_not_just_the_plain_one() -> None:
    quick, less = (
        Timed("quick", lambda size: 0.0002 * size),
        Timed("less quick", lambda size: 0.0003 * size),
    )
    assert choose(Timed(), way(quick) | way(less)).executor is quick


@pytest.mark.parametrize(
    "other",
    [Tripling("other", lambda _: 0.0), Centring("other", lambda _: 0.0), Timed("other", lambda _: 0.0, memory=0)],
    ids=["other values", "mixes rows", "out of memory"],
)
def test_a_quicker_way_that_answers_otherwise_or_fails_is_passed_over(other: Timed) -> None:
    assert choose(Timed(), way(other)).executor.name == "plain"


def test_a_way_that_cannot_be_had_is_passed_over() -> None:
    def refuse() -> Executor:
        raise VersionRefused("the graph cannot be frozen", check="load")

    assert choose(Timed(), {"other": Way(refuse, 1.0)}).executor.name == "plain"


def test_buckets_that_buy_nothing_are_dropped() -> None:
    assert [timing.size for timing in choose(Timed(seconds=lambda _: 0.001)).timings] == [4]


def test_a_bucket_that_takes_twice_its_halfs_time_ends_the_ladder() -> None:
    chosen = choose(Timed(seconds=lambda size: 0.001 if size <= 8 else 0.001 * size), largest=128)
    assert chosen.timings[-1].size == 16


def test_memory_that_runs_out_ends_the_ladder_below() -> None:
    assert [timing.size for timing in choose(Timed(memory=2)).timings] == [1, 2]


def test_out_of_memory_with_one_sample_is_a_refusal() -> None:
    with pytest.raises(VersionRefused, match="out of memory with a single sample"):
        choose(Timed(memory=0))


def test_other_values_than_the_golden_ones_are_a_refusal_that_names_the_way() -> None:
    with pytest.raises(VersionRefused, match=r"expected 4 \(plain\)") as caught:
        choose(Tripling())
    assert caught.value.check == "golden"


def test_other_values_beside_other_rows_only_are_a_refusal_of_their_own() -> None:
    with pytest.raises(VersionRefused, match="mixes the rows") as caught:
        choose(Centring())
    assert caught.value.check == "rows"


MEASURED = Measured("other", [BucketTiming(1, 5.0, 6.0), BucketTiming(4, 7.0, 8.0)])


def test_what_was_measured_before_is_proved_again_but_not_timed() -> None:
    plain, other = Timed(), Timed("other")
    chosen = choose(plain, way(other), MEASURED)
    assert (chosen.executor, list(chosen.timings)) == (other, MEASURED.buckets)
    assert set(other.batches) == {1, 4}
    assert (plain.batches, other.timed) == ([], 0)


def test_where_the_way_of_before_fails_now_all_are_measured_again() -> None:
    third = Timed("third", lambda _: 0.0)
    chosen = choose(Timed(), way(Tripling("other")) | way(third), MEASURED)
    assert chosen.executor is third
    assert third.timed


def test_a_way_that_there_is_no_more_leaves_the_plain_one_with_the_timings_of_before() -> None:
    chosen = choose(plain := Timed(), {}, Measured("plain", MEASURED.buckets))
    assert (chosen.executor, list(chosen.timings), plain.timed) == (plain, MEASURED.buckets, 0)
