"""Record, incumbent run again and candidate, row by row: which kind each sample is of, and what that says of the versions."""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from hoverboard.contract.signature import Array, Signature
from hoverboard.postmortem.replay_answers import AnswerReader, Woven, aligned, apart
from hoverboard.postmortem.replay_result import KINDS, Flags, Labelled, Move, NoiseFloor, OutcomeCount, SignTest

__all__ = ["Compared", "Comparison", "Tolerance", "compare", "mid_p"]

_SAME, _CHANGED, _FIXED, _BROKEN, _NOISE, _ = range(len(KINDS))
_QUANTILE: Final = 0.999
_MOST_MOVES: Final = 1000
_EXAMPLES: Final = 5


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Of the incumbent's golden samples: `abs(err) <= absolute + relative * abs(expected)`."""

    absolute: float
    relative: float


class _AnswersRead(NamedTuple):
    """What of some rows of one file is compared: numbers, and labels where the task has them."""

    numbers: Sequence[Array | None]
    labels: Sequence[str | None] | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A row that is worth showing.

    Attributes:
        row: its place in the files.
        kind: of `KINDS`.
        recorded, again, candidate, truth: answers in words; `again` is None where the incumbent was not run again.
    """

    row: int
    kind: str
    recorded: str
    again: str | None
    candidate: str
    truth: str | None


@dataclass(frozen=True, slots=True)
class Compared:
    """What came out; fields as those of `ReplayResult`.

    Attributes:
        codes: of each row, uint8 `(rows,)`, indexes into `KINDS`.
        found: examples.
    """

    codes: Array
    noise_floor: NoiseFloor
    kinds: dict[str, OutcomeCount]
    sign_test: SignTest
    numbers_differing: int
    labelled: Labelled
    flags: Flags
    moves: list[Move]
    found: list[Comparison]


def compare(
    answers: Path, runs: Sequence[Path | Woven], candidate: Path, signature: Signature, tolerance: Tolerance
) -> Compared:
    """Compare files with the same rows, in two passes of bounded memory: the noise floor first, then each row.

    Args:
        answers: of an export: what was recorded.
        runs: what the incumbents said when they were run again; may be none.
        candidate: what the candidate said.
        signature: of the incumbents, or another one of their task.
        tolerance: of golden samples.
    """
    reader = AnswerReader(signature)
    comparison = _Comparison(reader, tolerance)
    spread = [_differences(reader, answers, run) for run in runs]
    noise = np.concatenate(spread) if spread else np.zeros(0)
    noise = noise[np.isfinite(noise)]
    # A quantile that was seen ("higher"), not one in between: what lies at it is no difference.
    comparison.quantile = float(np.quantile(noise, _QUANTILE, method="higher")) if len(noise) else 0.0
    for tables in aligned([answers, candidate, *runs], reader.rows):
        comparison.add(*tables)
    return comparison.compared(len(runs))


def mid_p(one: int, other: int) -> float:
    """Two-sided mid-p value of a sign test: X ~ Bin(one + other, 1/2), 2 (P(X < min) + P(X = min) / 2), at most 1."""
    n, least = one + other, min(one, other)
    # Summed in logarithms: a binomial of thousands has neither floats nor time for exact fractions.
    logs = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2) for k in range(least + 1)
    ]
    return min(1.0, 2 * (math.fsum(map(math.exp, logs[:-1])) + math.exp(logs[-1]) / 2))


def _differences(reader: AnswerReader, answers: Path, run: Path | Woven) -> Array:
    """The largest difference of any number between a record and a run, float64 `(rows,)`; NaN where there is none."""
    parts = [
        _largest(reader.numbers(recorded), reader.numbers(again))
        for recorded, again in aligned([answers, run], reader.rows)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


@dataclass
class _Comparison:
    """Gathers rows.

    Attributes:
        quantile: the second half of the floor.
    """

    reader: AnswerReader
    tolerance: Tolerance
    quantile: float = 0.0
    _codes: list[Array] = field(default_factory=list)
    _weights: list[Array] = field(default_factory=list)
    _failed: list[Array] = field(default_factory=list)
    _moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    _moved: defaultdict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    _only_candidate: int = 0
    _only_again: int = 0
    _numbers: int = 0
    _noisy: int = 0
    _right: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    _p_values: dict[str, list[Array]] = field(default_factory=lambda: {"incumbent": [], "candidate": []})
    _flags: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    _best: dict[int, list[tuple[float, int, Comparison]]] = field(default_factory=dict)
    _rows: int = 0

    def add(self, recorded: pa.Table, candidate: pa.Table, *runs: pa.Table) -> None:
        """Rows of all files."""
        weights = 1 / recorded.column("incl_prob").to_numpy()
        record, said = self._read(recorded), self._read(candidate)
        beyond = self._beyond(record.numbers, said.numbers)
        failed = np.array([each is None for each in said.numbers], np.bool_)
        differs = self._differs(record, said)
        noise, silent = np.zeros((2, len(weights)), np.bool_)
        for run in runs:
            again = self._read(run)
            noise |= self._differs(record, again)
            silent |= np.array([each is None for each in again.numbers], np.bool_)
        self._noisy += int(noise.sum())
        self._only_candidate += int((differs & ~noise).sum())
        self._only_again += int((noise & ~differs).sum())
        # Another answer may come of repetition; none does, unless repetition gives none, either.
        noise &= ~failed | silent
        codes = np.where(differs, _CHANGED, _SAME).astype(np.uint8)
        self._judge(self.reader.truths(recorded), codes, noise, (record, said), weights)
        codes[noise] = _NOISE
        self._numbers += int((beyond & ~failed).sum())
        self._note_flags(recorded, candidate, weights)
        self._note_moves(record, said, codes, weights)
        self._note_examples((recorded, candidate, *runs), codes, (record, said))
        self._codes.append(codes)
        self._weights.append(weights)
        self._failed.append(failed)
        self._rows += len(weights)

    def _read(self, table: pa.Table) -> _AnswersRead:
        return _AnswersRead(self.reader.numbers(table), self.reader.labels(table))

    def _differs(self, one: _AnswersRead, other: _AnswersRead) -> Array:
        """Whether answers are different ones: other labels, or numbers beyond the floor; or one of them is missing."""
        if one.labels is None or other.labels is None:
            return self._beyond(one.numbers, other.numbers)
        return np.array([a != b for a, b in zip(one.labels, other.labels, strict=True)], np.bool_)

    def _beyond(self, one: Sequence[Array | None], other: Sequence[Array | None]) -> Array:
        return np.array([self._far(a, b) for a, b in zip(one, other, strict=True)], np.bool_)

    def _far(self, recorded: Array | None, said: Array | None) -> bool:
        if recorded is None or said is None or recorded.shape != said.shape:
            return recorded is not said
        floor = np.maximum(self.tolerance.absolute + self.tolerance.relative * np.abs(recorded), self.quantile)
        # NaN on both sides is the same answer; on one it is none.
        apart = ~(np.abs(said - recorded) <= floor) & ~((said == recorded) | (np.isnan(said) & np.isnan(recorded)))
        return bool(apart.any())

    def _judge(
        self,
        truths: Sequence[Any],
        codes: Array,
        aside: Array,
        sides: tuple[_AnswersRead, _AnswersRead],
        weights: Array,
    ) -> None:
        """Fixed and broken, where a truth is known; rows put `aside` are of another kind and do not count.

        No answer is not the right one, and further off than any number.
        """
        before_, after_ = sides
        for row, truth in enumerate(truths):
            if truth is None or aside[row]:
                continue
            weight = float(weights[row])
            self._right["rows"] += 1
            if before_.labels is not None and after_.labels is not None:
                before, after = float(before_.labels[row] == truth), float(after_.labels[row] == truth)
                better = after - before
            else:
                before, after = (_error(side.numbers[row], float(truth)) for side in sides)
                # An error that is other by less than the floor is the same.
                better = (
                    before - after if codes[row] == _CHANGED and abs(before - after) > self._floor(float(truth)) else 0
                )
            if math.isfinite(before + after):
                self._right["weight"] += weight
                self._right["before"] += weight * before
                self._right["after"] += weight * after
            if better:
                codes[row] = _FIXED if better > 0 else _BROKEN

    def _floor(self, value: float) -> float:
        return max(self.tolerance.absolute + self.tolerance.relative * abs(value), self.quantile)

    def _note_flags(self, recorded: pa.Table, candidate: pa.Table, weights: Array) -> None:
        sides = {"incumbent": recorded, "candidate": candidate}
        flags, both = {}, np.ones(len(weights), np.bool_)
        for name, table in sides.items():
            column = table.column("outlier").to_pylist()
            there = np.array([flag is not None for flag in column], np.bool_)
            both &= there
            flags[name] = np.array([bool(flag) for flag in column], np.bool_)
            self._flags[f"{name} weight"] += float(weights[there].sum())
            self._flags[name] += float(weights[flags[name]].sum())
            p_values = table.column("p_value").to_numpy(zero_copy_only=False).astype(np.float32)
            self._p_values[name].append(p_values[np.isfinite(p_values)])
        # Who gives no answer finds nothing usual, either.
        self._flags["appeared"] += int((both & flags["candidate"] & ~flags["incumbent"]).sum())
        self._flags["vanished"] += int((both & flags["incumbent"] & ~flags["candidate"]).sum())

    def _note_moves(self, before_: _AnswersRead, after_: _AnswersRead, codes: Array, weights: Array) -> None:
        if before_.labels is None or after_.labels is None:
            return
        for row in np.flatnonzero((codes != _SAME) & (codes != _NOISE)).tolist():
            before, after = before_.labels[row], after_.labels[row]
            if before is not None and after is not None and before != after:
                self._moves[before, after] += 1
                self._moved[before, after] += float(weights[row])

    def _note_examples(
        self, tables: Sequence[pa.Table], codes: Array, sides: tuple[_AnswersRead, _AnswersRead]
    ) -> None:
        recorded, candidate, *runs = tables
        truths = self.reader.truths(recorded)
        for row in np.flatnonzero(codes != _SAME).tolist():
            code, one, other = int(codes[row]), sides[0].numbers[row], sides[1].numbers[row]
            # No answer first, then the surest answers of labels, of numbers those that are furthest apart; then the first ones.
            size = math.inf
            if other is not None:
                numeric = self.reader.of in ("value", "outputs")
                size = apart(one, other) if numeric else float(np.max(other, initial=0.0))
            best = self._best.setdefault(code, [])
            entry = (size if math.isfinite(size) else math.inf, -(self._rows + row))
            if len(best) >= _EXAMPLES and entry <= best[0][:2]:
                continue
            again = self.reader.words(runs[0], row) if runs else None
            truth = truths[row]
            shown = Comparison(
                self._rows + row,
                KINDS[code],
                self.reader.words(recorded, row),
                again,
                self.reader.words(candidate, row),
                None if truth is None else str(truth),
            )
            (heapq.heappush if len(best) < _EXAMPLES else heapq.heapreplace)(best, (*entry, shown))

    def compared(self, runs: int) -> Compared:
        """All of it."""
        codes = np.concatenate(self._codes) if self._codes else np.zeros(0, np.uint8)
        weights = np.concatenate(self._weights) if self._weights else np.zeros(0)
        failed = np.concatenate(self._failed) if self._failed else np.zeros(0, np.bool_)
        kinds = {
            name: OutcomeCount(int((codes == code).sum()), float(weights[codes == code].sum()))
            for code, name in enumerate(KINDS)
        }
        kinds["failed"] = OutcomeCount(int(failed.sum()), float(weights[failed].sum()))
        broken, fixed = kinds["broken"].rows, kinds["fixed"].rows
        right, weight = self._right, self._right["weight"]
        labelled = Labelled(
            int(right["rows"]),
            right["before"] / weight if weight else None,
            right["after"] / weight if weight else None,
            SignTest(broken, fixed, mid_p(broken, fixed)),
            int((failed & (codes == _BROKEN)).sum()),
        )
        floor = NoiseFloor(
            self.reader.of, self.tolerance.absolute, self.tolerance.relative, self.quantile, runs, self._noisy
        )
        moves = [
            Move(before, after, rows, self._moved[before, after])
            for (before, after), rows in sorted(self._moves.items(), key=lambda move: (-move[1], move[0]))[:_MOST_MOVES]
        ]
        sign = SignTest(self._only_candidate, self._only_again, mid_p(self._only_candidate, self._only_again))
        return Compared(codes, floor, kinds, sign, self._numbers, labelled, self._flag_rates(), moves, self._found())

    def _flag_rates(self) -> Flags:
        shares, medians = {}, {}
        for name in ("incumbent", "candidate"):
            weight = self._flags[f"{name} weight"]
            shares[name] = self._flags[name] / weight if weight else None
            values = np.concatenate(self._p_values[name]) if self._p_values[name] else np.zeros(0)
            medians[name] = float(np.median(values)) if len(values) else None
        both = shares["incumbent"] is not None and shares["candidate"] is not None
        return Flags(
            shares["incumbent"],
            shares["candidate"],
            int(self._flags["appeared"]) if both else 0,
            int(self._flags["vanished"]) if both else 0,
            medians["incumbent"],
            medians["candidate"],
        )

    def _found(self) -> list[Comparison]:
        order = (_BROKEN, _FIXED, _CHANGED, _NOISE)
        return [
            found
            for code in order
            for *_, found in sorted(self._best.get(code, []), key=lambda one: one[:2], reverse=True)
        ]


def _largest(one: Sequence[Array | None], other: Sequence[Array | None]) -> Array:
    return np.array([apart(a, b) for a, b in zip(one, other, strict=True)], np.float64)


def _error(numbers: Array | None, truth: float) -> float:
    return math.inf if numbers is None else abs(float(numbers[0]) - truth)
