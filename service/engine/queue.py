"""What waits, and what runs next: models and callers in turns, within a turn the earliest deadline first.

A batch is of one version and one shape.

No clock, no threads, no framework in here: times are passed in, versions are looked up through a function, so that
every rule can be tested by itself.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence

import structlog

from hoverboard.contract.calls import PredictCall
from hoverboard.engine.fairness import TURN_S, Share
from hoverboard.engine.live import LiveVersion
from hoverboard.engine.work import Batch, Slice, Work
from hoverboard.errors import DeadlineExceeded, HoverboardError, InternalError, StaleSignature

__all__ = ["Lookup", "Queue"]

_log = structlog.get_logger(__name__)

Lookup = Callable[[str, int | str], LiveVersion]
"""(model, number or role) -> the live version, or an RpcError raised."""
_LaneKey = tuple[str, int | str, str, tuple[tuple[int, ...], ...]]
_Waiting = tuple[int, float, int, Work]
"""Turn, deadline, a number that settles the rest, and who waits."""


class _Lane:
    """Calls that may share a batch: same model, version or role, signature and shapes."""

    __slots__ = ("heap", "key", "rows", "share", "version")

    def __init__(self, key: _LaneKey, version: LiveVersion, share: Share) -> None:
        self.key = key
        # What was to answer the latest call. Its timings say what waiting costs; a lookup for each guess would cost more.
        self.version = version
        self.share = share
        self.heap: list[_Waiting] = []
        self.rows = 0

    def head(self) -> Work | None:
        """The call whose turn it is, of those that still have rows waiting."""
        # What was closed stays in the heap until it comes to the top: to search for it would cost every cancelled call.
        while self.heap:
            work = self.heap[0][3]
            if not work.closed and work.taken < work.call.n:
                return work
            heapq.heappop(self.heap)
        return None

    @property
    def rank(self) -> tuple[int, int, float, int]:
        """The smaller, the sooner; of a lane with a head."""
        return (int(self.share.seconds / TURN_S), *self.heap[0][:3])

    def take(self, work: Work, missing: int) -> Slice:
        """Hand rows of its head to a batch: at most `missing`, and where others wait, no more than its turn has left."""
        share = self.share
        turn, deadline, number, _ = self.heap[0]
        if turn > share.turn:  # noqa: PLR1730 - as in `Share.enter`
            share.turn = turn
        start = work.taken
        left = rows = work.call.n - start
        if left > 1:  # a single row is never more than is missing, nor than a turn
            rows = min(rows, missing)
            if len(self.heap) > 1:  # alone in its lane, a call holds up nobody
                rows = min(rows, share.turn_rows - work.place % share.turn_rows)
        work.taken = start + rows
        self.rows -= rows
        if rows < left:
            # The rest keeps its deadline but may be another turn's: then others of this turn come first.
            work.place += rows
            later = work.place // share.turn_rows
            if later != turn:
                heapq.heapreplace(self.heap, (later, deadline, number, work))
        else:
            heapq.heappop(self.heap)
        return Slice(work, start, rows)

    def due(self, deadline: float) -> dict[int, int]:
        """Rows that wait and are due by a time, by caller."""
        rows: dict[int, int] = {}
        for _, due, _, work in self.heap:
            if due <= deadline and (remaining := work.remaining):
                rows[work.call.source] = rows.get(work.call.source, 0) + remaining
        return rows


class Queue:
    """All calls that wait.

    Args:
        lookup: finds the live version that would answer now; raises RpcError when there is none.
        withdraw: called with a call some of whose batches have run, and which gets no answer of them after all.
    """

    def __init__(self, lookup: Lookup, withdraw: Callable[[Work], None]) -> None:
        self._lookup = lookup
        self._withdraw = withdraw
        self._lanes: dict[_LaneKey, _Lane] = {}
        self._shares: dict[str, Share] = {}
        self._had = 0.0  # seconds that the model has had whose turn it is
        self._counter = itertools.count()

    def push(self, work: Work, version: LiveVersion) -> None:
        """Let a call wait for `version`, or whichever answers when its turn comes."""
        call = work.call
        key = _lane_key(call)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(key, version, self._share(call.model, version))
        lane.version, share = version, lane.share
        work.place = place = share.enter(call.source, call.n)
        heapq.heappush(lane.heap, (place // share.turn_rows, call.deadline, next(self._counter), work))
        lane.rows += call.n

    def _share(self, model: str, version: LiveVersion) -> Share:
        """A model's share, from now on: what it did not ask for before, it cannot claim."""
        share = self._shares.get(model)
        if share is None:
            share = self._shares[model] = Share(version.costs.largest)
        share.seconds = max(share.seconds, self._had)
        return share

    def discard(self, work: Work) -> None:
        """Take back what still waits of a call; what runs already is thrown away when it ends."""
        if not work.closed:
            self._forget(work)
            work.closed = True
            self._give_up(work)

    def refuse(self, work: Work, error: HoverboardError) -> None:
        """Answer a call with an error and take back what still waits of it."""
        if not work.closed:
            self._forget(work)
            work.fail(error)
            self._give_up(work)

    def expire(self, now: float) -> list[Work]:
        """Refuse every call whose deadline has passed; returns them."""
        expired = []
        for lane in self._lanes.values():
            for _, deadline, _, work in lane.heap:
                if deadline <= now and work.remaining:
                    self.refuse(work, DeadlineExceeded("The deadline passed while the call waited"))
                    expired.append(work)
        return expired

    def rows(self) -> dict[str, int]:
        """Rows that wait, by model."""
        depth: dict[str, int] = {}
        for lane in self._lanes.values():
            depth[lane.key[0]] = depth.get(lane.key[0], 0) + lane.rows
        return depth

    @property
    def waiting(self) -> bool:
        """Whether any row waits."""
        return any(lane.rows for lane in self._lanes.values())

    def seconds(self) -> float:
        """Predicted execution time of everything that waits."""
        total = 0.0
        for lane in self._lanes.values():
            if lane.rows:
                total += lane.version.costs.predict(lane.rows)
        return total

    def ahead(self, call: PredictCall, own: float) -> float:
        """Predicted execution time of what runs before a call that arrives now has had its turn.

        That is its caller's own rows, and of what is due earlier: of each other caller of the model as many rows as of
        this one, and of each other model as much time as of this one.

        Args:
            own: the call's own seconds.
        """
        mine = 0.0
        others: dict[str, float] = {}
        for lane in self._lanes.values():
            costs = lane.version.costs
            if lane.key[0] == call.model:
                due = lane.due(call.deadline)
                behind = due.pop(call.source, 0)
                most = max(behind + call.n, lane.share.turn_rows)
                mine += costs.predict(behind + sum([min(rows, most) for rows in due.values()]))
            else:
                rows = sum(lane.due(call.deadline).values())
                others[lane.key[0]] = others.get(lane.key[0], 0.0) + costs.predict(rows)
        most_s = max(mine + own, TURN_S)
        return mine + sum([min(seconds, most_s) for seconds in others.values()])

    def oldest(self, model: str) -> float | None:
        """When the longest waiting call for a model arrived."""
        heaps = (lane.heap for lane in self._lanes.values() if lane.key[0] == model)
        return min((work.arrived for heap in heaps for *_, work in heap if work.remaining), default=None)

    def largest(self, model: str) -> int:
        """Rows of the largest batch that what waits for a model can fill; 1 where nothing of it is live any more."""
        live = [self._answering(lane) for lane in self._lanes.values() if lane.key[0] == model]
        return max((version.costs.largest for version in live if version is not None), default=1)

    def next_batch(self, now: float) -> Batch | None:
        """Take the call whose turn it is and as much company as its bucket holds; None when nothing can run."""
        while (lane := self._most_urgent()) is not None:
            try:
                batch = self._batch_from(lane, now)
            except Exception:  # noqa: BLE001 - see above
                # Its calls would fail again and again, and keep all others waiting.
                _log.exception("lane_failed", model=lane.key[0], version=lane.key[1])
                self._dismiss(lane, InternalError())
                continue
            if batch is not None:
                return batch
        return None

    def _batch_from(self, lane: _Lane, now: float) -> Batch | None:
        """The next batch of a lane; None where its calls, or the first of them, had to be refused instead."""
        head = lane.head()
        version = self._version_for(lane)  # once more: what was live when the calls came may have been swapped
        if head is None or version is None:
            return None
        company = self._company(lane, version)
        take, bucket = version.costs.choose(sum(other.rows for other in company))
        slack = head.call.deadline - now
        if version.costs.seconds(bucket) > slack:
            # A smaller batch ends sooner: better that few are answered in time than all too late.
            fitting = version.costs.largest_within(slack)
            if fitting is None:
                self.refuse(head, DeadlineExceeded("The deadline cannot be met any more"))
                return None
            take, bucket = min(take, fitting), fitting
        # Charged before it runs: with two batches in flight, the next choice must know of the first.
        self._had = max(self._had, lane.share.seconds)
        lane.share.seconds += version.costs.seconds(bucket)
        return self._fill(company, version, take, bucket)

    def _most_urgent(self) -> _Lane | None:
        ready = []
        for lane in list(self._lanes.values()):
            if lane.head() is None:
                del self._lanes[lane.key]
            else:
                ready.append(lane)
        if not ready:
            # Nothing waits: whoever comes next is owed nothing, and owes nothing.
            self._shares.clear()
            self._had = 0.0
            return None
        return ready[0] if len(ready) == 1 else min(ready, key=_rank)

    def _version_for(self, lane: _Lane) -> LiveVersion | None:
        """The version that answers a lane now; where there is none, or another signature, its calls are refused."""
        model, number_or_role, fingerprint, _ = lane.key
        try:
            version = self._lookup(model, number_or_role)
            if version.fingerprint != fingerprint:
                raise StaleSignature(model)
        except HoverboardError as error:
            self._dismiss(lane, error)
            return None
        return version

    def _dismiss(self, lane: _Lane, error: HoverboardError) -> None:
        """Refuse every call of a lane."""
        del self._lanes[lane.key]
        for *_, work in lane.heap:
            work.fail(error)
            self._give_up(work)

    def _company(self, lane: _Lane, version: LiveVersion) -> list[_Lane]:
        """The lanes that can share a batch with `lane`: called by number and by role, say, but one version."""
        if len(self._lanes) == 1:
            return [lane]
        return [other for other in self._lanes.values() if other is lane or self._joins(other, lane, version)]

    def _joins(self, other: _Lane, lane: _Lane, version: LiveVersion) -> bool:
        same = (other.key[0], *other.key[2:]) == (lane.key[0], *lane.key[2:])
        return same and self._answering(other) is version

    def _answering(self, lane: _Lane) -> LiveVersion | None:
        """The version that would answer a lane now."""
        try:
            return self._lookup(*lane.key[:2])
        except HoverboardError:
            return None

    def _fill(self, lanes: list[_Lane], version: LiveVersion, take: int, bucket: int) -> Batch:
        slices: list[Slice] = []
        missing = take
        while missing:
            lane = lanes[0] if len(lanes) == 1 else _first(lanes)
            work = lane.head()
            if work is None:
                break
            if work.version is not version:
                # Swapped between two parts of a call: one version answers all of it, so that it starts over.
                if work.parts:
                    self._give_up(work)
                lane.rows += work.begin_on(version)
            taken = lane.take(work, missing)
            missing -= taken.rows
            if slices and slices[-1].work is work:  # its next turn came at once: one slice is one answer less to join
                last = slices.pop()
                taken = Slice(work, last.start, last.rows + taken.rows)
            slices.append(taken)
        return Batch(version, tuple(slices), take - missing, bucket)

    def _give_up(self, work: Work) -> None:
        """Nobody gets what has run of a call."""
        if work.parts:
            self._withdraw(work)
            work.parts.clear()

    def _forget(self, work: Work) -> None:
        lane = self._lanes.get(_lane_key(work.call))
        if lane is not None:
            lane.rows -= work.remaining
            lane.share.leave(work.call.source, work.remaining)


def _first(lanes: Sequence[_Lane]) -> _Lane:
    """The lane whose head is the most urgent; any where none has one."""
    ready = [lane for lane in lanes if lane.head() is not None]
    return min(ready, key=_rank, default=lanes[0])


def _rank(lane: _Lane) -> tuple[int, int, float, int]:
    return lane.rank


def _lane_key(call: PredictCall) -> _LaneKey:
    return call.model, call.version, call.fingerprint, tuple([column.shape[1:] for column in call.columns])
