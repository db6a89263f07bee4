from __future__ import annotations

import numpy as np
import pytest

from hoverboard.contract.calls import PredictAnswer, PredictCall
from hoverboard.engine.live import LiveVersion
from hoverboard.engine.queue import Queue
from hoverboard.engine.work import Batch, Work
from hoverboard.errors import DeadlineExceeded, HoverboardError, NotReady, StaleSignature
from tests.unit.engine.fakes import call, version

Outcome = list[PredictAnswer | HoverboardError]


class House:
    """A queue over a table of live versions."""

    def __init__(self, *versions: LiveVersion) -> None:
        self.table: dict[tuple[str, int | str], LiveVersion] = {}
        for live in versions:
            self.table[live.key] = live
            self.table[live.key[0], "stable"] = live
        self.withdrawn: list[tuple[Work, int]] = []
        self.queue = Queue(self._lookup, lambda work: self.withdrawn.append((work, len(work.parts))))

    def _lookup(self, model: str, wanted: int | str) -> LiveVersion:
        try:
            return self.table[model, wanted]
        except KeyError:
            raise NotReady from None

    def push(self, what: PredictCall, arrived: float = 0.0) -> tuple[Work, Outcome]:
        outcome: Outcome = []
        work = Work(what, outcome.append, arrived)
        self.queue.push(work, self._lookup(what.model, what.version))
        return work, outcome


def _taken(batch: Batch | None) -> list[tuple[int, int]]:
    assert batch is not None
    return [(part.start, part.rows) for part in batch.slices]


def test_nothing_waits_nothing_runs() -> None:
    assert House(version()).queue.next_batch(0.0) is None


def test_calls_share_a_batch_and_the_smallest_bucket_that_pays() -> None:
    live = version()
    house = House(live)
    for _ in range(3):
        house.push(call(live))
    batch = house.queue.next_batch(0.0)
    assert batch is not None
    assert (batch.rows, batch.bucket) == (3, 4)
    assert [column.shape for column in batch.columns()] == [(3, 2)]
    assert house.queue.next_batch(0.0) is None


def test_the_earliest_deadline_goes_first_over_all_models() -> None:
    slow, urgent = version(name="slow"), version(name="urgent")
    house = House(slow, urgent)
    house.push(call(slow, deadline=5.0))
    house.push(call(urgent, deadline=1.0))
    batch = house.queue.next_batch(0.0)
    assert batch is not None
    assert batch.version is urgent


def test_a_call_larger_than_the_largest_bucket_is_served_in_parts() -> None:
    live = version()
    house = House(live)
    house.push(call(live, n=40))
    assert _taken(house.queue.next_batch(0.0)) == [(0, 16)]
    assert _taken(house.queue.next_batch(0.0)) == [(16, 16)]
    assert _taken(house.queue.next_batch(0.0)) == [(32, 8)]
    assert house.queue.rows().get("m", 0) == 0


def test_a_call_by_number_and_one_by_role_share_a_batch_when_they_mean_one_version() -> None:
    live = version()
    house = House(live)
    house.push(call(live, wanted=1))
    house.push(call(live, wanted="stable"))
    batch = house.queue.next_batch(0.0)
    assert batch is not None
    assert batch.rows == 2


def test_other_shapes_never_share_a_batch() -> None:
    live = version()
    house = House(live)
    house.push(call(live))
    other = PredictCall("m", "stable", live.fingerprint, (np.zeros((1, 3), np.float32),), 1, 10.0)
    house.push(other)
    first, second = house.queue.next_batch(0.0), house.queue.next_batch(0.0)
    assert first is not None and second is not None
    assert {first.columns()[0].shape, second.columns()[0].shape} == {(1, 2), (1, 3)}


def test_an_expired_call_is_refused_and_never_run() -> None:
    live = version()
    house = House(live)
    _, late = house.push(call(live, deadline=1.0))
    _, fine = house.push(call(live, deadline=9.0))
    assert len(house.queue.expire(2.0)) == 1
    assert isinstance(late[0], DeadlineExceeded)
    batch = house.queue.next_batch(2.0)
    assert batch is not None
    assert batch.rows == 1
    assert not fine


def test_a_call_whose_deadline_no_bucket_can_meet_is_dropped_for_the_sake_of_the_others() -> None:
    live = version()
    house = House(live)
    _, hopeless = house.push(call(live, deadline=1.0005))
    house.push(call(live, deadline=9.0))
    batch = house.queue.next_batch(1.0)
    assert batch is not None
    assert isinstance(hopeless[0], DeadlineExceeded)
    assert batch.rows == 1


def test_a_tight_deadline_gets_the_largest_bucket_that_meets_it() -> None:
    live = version()
    house = House(live)
    house.push(call(live, deadline=1.0025))
    for _ in range(15):
        house.push(call(live, deadline=9.0))
    batch = house.queue.next_batch(1.0)
    assert batch is not None
    assert (batch.rows, batch.bucket) == (4, 4)


def test_what_was_taken_back_does_not_run_and_does_not_count() -> None:
    live = version()
    house = House(live)
    work, outcome = house.push(call(live, n=5))
    house.push(call(live))
    house.queue.discard(work)
    house.queue.discard(work)
    assert house.queue.rows() == {"m": 1}
    batch = house.queue.next_batch(0.0)
    assert batch is not None
    assert batch.rows == 1
    assert not outcome


def test_a_swap_between_two_parts_of_a_call_starts_it_over_so_that_one_version_answers_all_of_it() -> None:
    old, new = version(number=1), version(number=2)
    house = House(old)
    house.push(call(old, n=20))
    assert _taken(house.queue.next_batch(0.0)) == [(0, 16)]
    house.table["m", "stable"] = new
    batch = house.queue.next_batch(0.0)
    assert batch is not None
    assert batch.version is new
    rows = [_taken(batch), _taken(house.queue.next_batch(0.0))]
    assert rows == [[(0, 4)], [(4, 16)]]
    assert house.queue.rows().get("m", 0) == 0


def test_a_version_with_another_signature_sends_its_calls_back_to_be_encoded_again() -> None:
    live = version()
    house = House(live)
    stale = PredictCall("m", "stable", "0" * 16, (np.zeros((1, 2), np.float32),), 1, 10.0)
    _, outcome = house.push(stale)
    assert house.queue.next_batch(0.0) is None
    assert isinstance(outcome[0], StaleSignature)


def test_calls_for_a_version_that_is_gone_are_refused() -> None:
    live = version()
    house = House(live)
    _, outcome = house.push(call(live))
    house.table.clear()
    assert house.queue.next_batch(0.0) is None
    assert isinstance(outcome[0], NotReady)
    assert house.queue.seconds() == 0.0


@pytest.mark.parametrize(("n", "expected"), [(1, 0.001), (16, 0.0035), (33, 0.008)])
def test_the_queue_is_measured_in_predicted_seconds(n: int, expected: float) -> None:
    live = version()
    house = House(live)
    house.push(call(live, n=n))
    assert house.queue.seconds() == pytest.approx(expected)


def test_the_oldest_arrival_is_known_by_model() -> None:
    live = version()
    house = House(live)
    house.push(call(live), arrived=5.0)
    house.push(call(live), arrived=3.0)
    assert house.queue.oldest("m") == 3.0
    assert house.queue.oldest("other") is None


def _who(batch: Batch | None) -> dict[int, int]:
    """Rows of a batch by caller."""
    assert batch is not None
    rows: dict[int, int] = {}
    for part in batch.slices:
        rows[part.work.call.source] = rows.get(part.work.call.source, 0) + part.rows
    return rows


def test_callers_of_a_model_take_turns_so_that_a_large_call_holds_up_no_small_one() -> None:
    live = version()
    house = House(live)
    house.push(call(live, n=1000, deadline=5.0, source=1))
    assert _who(house.queue.next_batch(0.0)) == {1: 16}
    for source in (2, 3):
        house.push(call(live, n=2, deadline=9.0, source=source))
    house.push(call(live, n=1000, deadline=9.0, source=4))
    assert _who(house.queue.next_batch(0.0)) == {2: 2, 3: 2, 4: 12}
    served = [_who(house.queue.next_batch(0.0)) for _ in range(20)]
    rows = {source: sum(each.get(source, 0) for each in served) for source in (1, 4)}
    assert abs(rows[1] - rows[4]) <= 32


def test_a_turn_that_began_with_a_small_call_is_no_longer_for_that() -> None:
    live = version()
    house = House(live)
    house.push(call(live, n=4, source=1))
    assert _who(house.queue.next_batch(0.0)) == {1: 4}
    house.push(call(live, n=100, deadline=5.0, source=1))
    house.push(call(live, n=100, deadline=9.0, source=2))
    assert _who(house.queue.next_batch(0.0)) == {1: 12, 2: 4}


def test_what_a_caller_took_back_is_not_held_against_it() -> None:
    live = version()
    house = House(live)
    work, _ = house.push(call(live, n=1000, source=1))
    house.push(call(live, n=1000, deadline=20.0, source=2))
    house.queue.discard(work)
    house.push(call(live, n=4, deadline=30.0, source=1))
    house.queue.next_batch(0.0)
    assert 1 in _who(house.queue.next_batch(0.0))


def test_models_take_turns_so_that_one_models_queue_holds_up_no_other() -> None:
    flooded, other = version(name="flooded", timings={16: 0.02}), version(name="other", timings={1: 0.001})
    house = House(flooded, other)
    for source in range(20):
        house.push(call(flooded, n=16, deadline=1.0, source=source))
    assert house.queue.next_batch(0.0) is not None
    house.push(call(other, deadline=9.0))
    batches = [house.queue.next_batch(0.0) for _ in range(2)]
    assert other in [batch.version for batch in batches if batch is not None]


def test_what_is_ahead_of_a_call_is_what_is_due_earlier_and_no_more_of_anybody_than_its_own() -> None:
    live, flooded = version(timings={16: 0.001}), version(name="flooded", timings={16: 0.01})
    house = House(live, flooded)
    asked = call(live, n=16, deadline=5.0, source=9)
    for source in range(3):
        house.push(call(live, n=1600, deadline=4.0, source=source))
    assert house.queue.ahead(asked, 0.001) == pytest.approx(0.003)
    house.push(call(live, n=1600, deadline=6.0, source=3))
    assert house.queue.ahead(asked, 0.001) == pytest.approx(0.003)
    house.push(call(flooded, n=1600, deadline=4.0))
    assert house.queue.ahead(asked, 0.001) == pytest.approx(0.013)
    house.push(call(live, n=160, deadline=4.0, source=9))
    assert house.queue.ahead(asked, 0.001) == pytest.approx(0.010 + 3 * 0.011 + 0.044)


def test_to_measure_the_queue_looks_nothing_up() -> None:
    live = version()
    house = House(live)
    house.push(call(live))
    house.table.clear()  # a lookup would raise, or begin a load
    assert house.queue.seconds() == pytest.approx(0.001)
    assert house.queue.ahead(call(live), 0.001) == pytest.approx(0.001)
