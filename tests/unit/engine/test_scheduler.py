"""Which call runs when, and what each caller is told: the real queue, runner and thread over an executor of NumPy."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hoverboard.config import Settings
from hoverboard.contract.calls import ExecutedBatch, PredictAnswer, PredictCall, Source
from hoverboard.contract.catalog import Catalog, ModelStatus
from hoverboard.contract.signature import Array
from hoverboard.engine.live import LiveVersion
from hoverboard.engine.runner import Runner
from hoverboard.engine.scheduler import Scheduler
from hoverboard.engine.slots import Slots
from hoverboard.engine.work import Work
from hoverboard.engine.worker import Worker
from hoverboard.errors import (
    DeadlineExceeded,
    HoverboardError,
    InternalError,
    InvalidParams,
    ModelFailed,
    NotReady,
    Overloaded,
    StaleSignature,
)
from hoverboard.versions import Serving
from hoverboard.versions.serving import Batching, Limits
from tests.unit.engine.fakes import Doubling, call, version

NOW = 1000.0
SOON = NOW + 10.0


class Recording:
    """A `RecordSink` that remembers, or refuses."""

    def __init__(self) -> None:
        self.batches: list[ExecutedBatch] = []
        self.withdrawn: list[bytes] = []
        self.full = False

    def append(self, batch: ExecutedBatch) -> None:
        if self.full:
            raise Overloaded("No room for records")
        self.batches.append(batch)

    def withdraw(self, source: Source, sample_ids: bytes) -> None:
        self.withdrawn += [sample_ids[at : at + 16] for at in range(0, len(sample_ids), 16)]

    def supplement(self, source: Source, detector: str, sample_ids: bytes, scores: Mapping[str, Array]) -> None:
        raise AssertionError("no version of these tests has a detector")

    def features(self, source: Source, sample_ids: bytes, z: Array) -> None:
        raise AssertionError("no version of these tests has a detector")


class Outcome:
    """What a caller was told."""

    def __init__(self) -> None:
        self.told: list[PredictAnswer | HoverboardError] = []
        self.work: Work | None = None

    @property
    def answer(self) -> PredictAnswer:
        (told,) = self.told
        assert isinstance(told, PredictAnswer), told
        return told

    @property
    def error(self) -> HoverboardError:
        (told,) = self.told
        assert isinstance(told, HoverboardError)
        return told


class House:
    """A scheduler over a table of live versions, on a clock that stands still until it is set."""

    def __init__(self, settings: Settings, sink: Recording | None = None) -> None:
        self.now = NOW
        self.table: dict[tuple[str, int | str], LiveVersion] = {}
        self.servings: dict[str, Serving] = {}
        self.demanded: list[tuple[str, int | str]] = []
        self.worker = Worker("execute")
        self.scheduler = Scheduler(
            settings,
            lookup=self._lookup,
            demand=lambda model, wanted: self.demanded.append((model, wanted)),
            serving=lambda model: self.servings.get(model, Serving()),
            hides=lambda _: False,
            runner=Runner(sink, Slots(), self.worker, 10.0),
            worker=self.worker,
            clock=lambda: self.now,
        )
        self.scheduler._short_s = math.inf  # on the event loop, whatever this machine takes

    def serve(self, *versions: LiveVersion) -> None:
        for live in versions:
            self.table[live.key] = self.table[live.key[0], "stable"] = live

    def _lookup(self, model: str, wanted: int | str) -> LiveVersion:
        try:
            return self.table[model, wanted]
        except KeyError:
            raise NotReady from None

    def submit(self, what: PredictCall) -> Outcome:
        outcome = Outcome()
        outcome.work = self.scheduler.submit(what, outcome.told.append)
        return outcome


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[..., House]]:
    houses: list[House] = []

    def make(*versions: LiveVersion, sink: Recording | None = None, **settings: Any) -> House:
        house = House(Settings.load(models=tmp_path, data_dir=tmp_path, **settings), sink)
        house.worker.__enter__()
        house.serve(*versions)
        houses.append(house)
        return house

    yield make
    for house in houses:
        await asyncio.wait_for(house.scheduler.drain(), 5)
        house.worker.__exit__(None, None, None)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def told(*outcomes: Outcome) -> None:
    await until(lambda: all(outcome.told for outcome in outcomes))


# -- admission ---------------------------------------------------------------------------------------------------------


async def test_a_call_whose_deadline_cannot_be_met_is_refused_at_once_and_never_run(make: Callable[..., House]) -> None:
    executor = Doubling()
    live = version(executor, {1: 1.0})
    house = make(live, max_queue_ms=60_000)
    hopeless = house.submit(call(live, deadline=NOW + 0.5))
    assert isinstance(hopeless.error, DeadlineExceeded)
    first = house.submit(call(live, deadline=NOW + 1.5))
    behind = house.submit(call(live, deadline=NOW + 1.9))
    assert isinstance(behind.error, DeadlineExceeded), "it would fit, were there nothing ahead of it"
    assert behind.error.retry_after_ms
    await told(first)
    assert executor.batches == [1]


async def test_more_predicted_work_than_the_limit_is_refused_however_late_the_deadline(
    make: Callable[..., House],
) -> None:
    live = version(timings={1: 0.1})
    house = make(live, max_queue_ms=250)
    outcomes = [house.submit(call(live, deadline=SOON)) for _ in range(5)]
    assert [len(outcome.told) for outcome in outcomes] == [0, 0, 0, 1, 1]
    assert isinstance(outcomes[3].error, Overloaded)
    assert outcomes[3].error.retry_after_ms == 301
    await told(*outcomes)


async def test_a_models_own_limits_stand_before_the_services(make: Callable[..., House]) -> None:
    live = version(timings={1: 0.1})
    house = make(live, max_queue_ms=60_000)
    house.servings["m"] = Serving(batching=Batching(max_queue_ms=50), limits=Limits(max_instances=2))
    first, second = (house.submit(call(live, deadline=SOON)) for _ in range(2))
    assert isinstance(house.submit(call(live, n=3, deadline=SOON)).error, InvalidParams)
    assert isinstance(second.error, Overloaded)
    await told(first)


async def test_a_call_encoded_for_another_signature_is_sent_back(make: Callable[..., House]) -> None:
    live = version()
    house = make(live)
    stale = PredictCall("m", "stable", "0" * 16, (np.zeros((1, 2), np.float32),), 1, SOON)
    assert isinstance(house.submit(stale).error, StaleSignature)


async def test_only_a_call_for_what_is_not_live_has_it_loaded_and_nothing_that_merely_looks(
    make: Callable[..., House],
) -> None:
    live = version()
    house = make(live)
    waiting = house.submit(call(live, wanted=1, deadline=SOON))
    house.table.clear()  # it was unloaded while the call waited
    await told(waiting)
    assert isinstance(waiting.error, NotReady)
    assert house.demanded == []
    assert isinstance(house.submit(call(live, wanted=1, deadline=SOON)).error, NotReady)
    assert house.demanded == [("m", 1)]


async def test_an_admission_that_fails_in_an_unforeseen_way_costs_its_own_call_alone(
    make: Callable[..., House],
) -> None:
    live = version()
    house = make(live)
    odd = PredictCall("m", "stable", live.fingerprint, (), "many", SOON)  # type: ignore[arg-type]
    assert isinstance(house.submit(odd).error, InternalError)
    fine = house.submit(call(live, deadline=SOON))
    await told(fine)
    assert fine.answer.version == 1


# -- deadlines and order -----------------------------------------------------------------------------------------------


async def test_a_call_that_expires_while_it_waits_is_refused_and_never_run(make: Callable[..., House]) -> None:
    executor = Doubling()
    live = version(executor)
    house = make(live)
    late, fine = house.submit(call(live, deadline=NOW + 1)), house.submit(call(live, n=2, deadline=SOON))
    house.now = NOW + 2
    house.scheduler.expire()
    assert isinstance(late.error, DeadlineExceeded)
    await told(fine)
    assert fine.answer.batch == 2


async def test_a_call_that_expired_before_its_turn_is_not_run_even_where_nobody_swept(
    make: Callable[..., House],
) -> None:
    executor = Doubling()
    live = version(executor)
    house = make(live)
    late = house.submit(call(live, deadline=NOW + 1))
    house.now = NOW + 2
    await told(late)
    assert isinstance(late.error, DeadlineExceeded)
    assert executor.batches == []


class Ordered(Doubling):
    """Notes the models in the order they run."""

    def __init__(self, name: str, order: list[str]) -> None:
        super().__init__()
        self.called, self.order = name, order

    def run(self, columns: Sequence[Array]) -> list[Array]:
        self.order.append(self.called)
        return super().run(columns)


async def test_of_several_models_the_earliest_deadline_goes_first(make: Callable[..., House]) -> None:
    order: list[str] = []
    models = [version(Ordered(name, order), name=name) for name in ("late", "later", "soon")]
    house = make(*models)
    deadlines = {"late": 5.0, "later": 9.0, "soon": 1.0}
    await told(*[house.submit(call(live, deadline=NOW + deadlines[live.key[0]])) for live in models])
    assert order == ["soon", "late", "later"]


async def test_a_large_call_holds_up_no_other_caller(make: Callable[..., House]) -> None:
    executor = Doubling()
    live = version(executor)
    house = make(live, max_queue_ms=60_000)
    large = house.submit(call(live, n=1600, deadline=SOON, source=1))
    await until(lambda: executor.batches)
    small = house.submit(call(live, deadline=SOON + 5, source=2))
    await told(small)
    assert not large.told
    assert len(executor.batches) <= 3
    await told(large)
    assert large.answer.outputs is not None and large.answer.outputs[0].shape == (1600, 2)


# -- batches -----------------------------------------------------------------------------------------------------------


async def test_calls_of_one_tick_share_a_batch_and_each_has_its_own_rows(make: Callable[..., House]) -> None:
    executor = Doubling()
    live = version(executor)
    house = make(live)
    outcomes = [house.submit(call(live, n=2, fill=float(i), deadline=SOON)) for i in range(4)]
    await told(*outcomes)
    assert executor.batches == [16]  # 8 rows, padded
    for i, outcome in enumerate(outcomes):
        answer = outcome.answer
        assert answer.outputs is not None and answer.outputs[0].tolist() == [[2 * i, 2 * i]] * 2
        assert (answer.batch, len(answer.sample_ids)) == (8, 32)


async def test_a_batch_that_fails_is_split_until_the_offender_stands_alone(make: Callable[..., House]) -> None:
    live = version()
    house = make(live)
    outcomes = [house.submit(call(live, fill=666 if i == 5 else i, deadline=SOON)) for i in range(16)]
    await told(*outcomes)
    assert isinstance(outcomes[5].error, ModelFailed)
    assert outcomes[5].error.details == {"pointer": "/instances/0"}
    assert all(outcome.answer.version == 1 for i, outcome in enumerate(outcomes) if i != 5)


async def test_running_out_of_memory_lowers_the_bucket_and_answers_everybody(make: Callable[..., House]) -> None:
    executor = Doubling(memory=4)
    live = version(executor)
    house = make(live)
    outcomes = [house.submit(call(live, deadline=SOON)) for _ in range(16)]
    await told(*outcomes)
    assert all(outcome.answer.batch == 16 for outcome in outcomes)
    assert live.costs.largest == 4
    executor.batches.clear()
    await told(*[house.submit(call(live, deadline=SOON)) for _ in range(16)])
    assert max(executor.batches) == 4


async def test_a_swap_takes_effect_for_what_still_waits(make: Callable[..., House]) -> None:
    old, new = version(number=1), version(number=2)
    house = make(old)
    waiting = house.submit(call(old, deadline=SOON))
    house.serve(new)
    await told(waiting)
    assert (waiting.answer.version, waiting.answer.role) == (2, "stable")


class Gated(Doubling):
    """Runs once it may."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.gate = threading.Event(), threading.Event()

    def run(self, columns: Sequence[Array]) -> list[Array]:
        self.begun.set()
        assert self.gate.wait(10)
        return super().run(columns)


async def test_while_a_long_batch_runs_on_its_thread_calls_gather_expire_and_leave(make: Callable[..., House]) -> None:
    executor = Gated()
    live = version(executor)
    house = make(live)
    house.scheduler._short_s = 0.0  # nothing runs on the event loop
    first = house.submit(call(live, deadline=SOON))
    await until(executor.begun.is_set)
    gathered = [house.submit(call(live, deadline=SOON)) for _ in range(3)]
    expiring, leaving = house.submit(call(live, deadline=NOW + 1)), house.submit(call(live, deadline=SOON))
    assert leaving.work is not None
    house.scheduler.cancel(leaving.work)
    house.now = NOW + 2
    house.scheduler.expire()
    assert isinstance(expiring.error, DeadlineExceeded)
    assert not first.told
    executor.gate.set()
    await told(first, *gathered)
    assert {outcome.answer.batch for outcome in gathered} == {3}
    assert executor.batches == [1, 4]
    assert not leaving.told


async def test_a_cancelled_call_is_neither_run_nor_told_and_leaves_the_engine_idle(make: Callable[..., House]) -> None:
    executor = Doubling()
    live = version(executor)
    house = make(live)
    outcome = house.submit(call(live, deadline=SOON))
    assert outcome.work is not None
    house.scheduler.cancel(outcome.work)
    await asyncio.wait_for(house.scheduler.drain(), 5)
    assert (executor.batches, outcome.told) == ([], [])


async def test_an_idle_executor_waits_for_company_as_long_as_a_model_says(make: Callable[..., House]) -> None:
    executor = Doubling()
    live = version(executor)
    house = make(live)
    house.servings["m"] = Serving(batching=Batching(max_batch_delay_ms=20))
    house.scheduler.follow(Catalog({"m": ModelStatus("m", {}, ())}))
    first = house.submit(call(live, deadline=SOON))
    for _ in range(3):
        await asyncio.sleep(0)
    second = house.submit(call(live, deadline=SOON))
    assert executor.batches == []
    house.now += 0.02
    await told(first, second)
    assert executor.batches == [4]


async def test_a_caller_that_cannot_be_told_costs_no_other(make: Callable[..., House]) -> None:
    live = version()
    house = make(live)

    def broken(_: PredictAnswer | HoverboardError) -> None:
        raise RuntimeError("gone")

    house.scheduler.submit(call(live, deadline=SOON), broken)
    fine = house.submit(call(live, deadline=SOON))
    await told(fine)
    assert fine.answer.batch == 2


# -- records -----------------------------------------------------------------------------------------------------------


async def test_a_batch_is_recorded_before_it_is_answered_or_its_calls_are_refused(make: Callable[..., House]) -> None:
    sink = Recording()
    live = version()
    house = make(live, sink=sink)
    seen: list[int] = []
    house.scheduler.submit(call(live, deadline=SOON), lambda _: seen.append(len(sink.batches)))
    await until(lambda: seen)
    assert seen == [1]
    sink.full = True
    refused = house.submit(call(live, deadline=SOON))
    await told(refused)
    assert isinstance(refused.error, Overloaded)


async def test_parts_of_a_call_that_fails_later_are_taken_back(make: Callable[..., House]) -> None:
    sink = Recording()
    live = version()
    house = make(live, sink=sink)
    column = np.zeros((20, 2), np.float32)
    column[19] = 666  # in the second batch
    outcome = house.submit(PredictCall("m", "stable", live.fingerprint, (column,), 20, SOON))
    await told(outcome)
    assert isinstance(outcome.error, ModelFailed)
    assert outcome.error.details == {"pointer": "/instances/19"}
    await until(lambda: len(sink.withdrawn) == 16)
    assert b"".join(sink.withdrawn) == sink.batches[0].sample_ids
    assert not sink.batches[1].ok.any()


# -- the end -----------------------------------------------------------------------------------------------------------


async def test_a_scheduler_that_drains_answers_what_it_took_and_takes_no_more(make: Callable[..., House]) -> None:
    live = version()
    house = make(live)
    taken = house.submit(call(live, deadline=SOON))
    draining = asyncio.create_task(house.scheduler.drain())
    await asyncio.sleep(0)
    refused = house.submit(call(live, deadline=SOON))
    assert isinstance(refused.error, NotReady)
    await asyncio.wait_for(draining, 5)
    assert taken.answer.version == 1
