"""Recorded rows as small integers: the bins of the version's baseline, words of texts, and who sent and answered them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from hoverboard.contract.signature import STRING, Array
from hoverboard.contract.times import times_ms
from hoverboard.postmortem.recorded import RecordedVersion
from hoverboard.postmortem.recorded_values import RawInputs, decode_inputs
from hoverboard.postmortem.refused import reason_of
from hoverboard.postmortem.table import ABSENT, Codes, Field, Kind, Table
from hoverboard.versions.baseline import Baseline, Feature
from hoverboard.versions.binning import measure, texts

__all__ = ["Encoder", "bins_of"]

_MOST_VALUES: Final = 250
_MOST_WORDS: Final = 150
_WORDS_OF_A_TEXT: Final = 100
_MOST_KNOWN_WORDS: Final = 200_000
_MOST_FEATURES: Final = 200
_OTHER: Final = "other values"
_WORD: Final = re.compile(r"[^\W\d_]{2,30}")
_CLIENTS: Final = ("customer", "client", "tenant", "account", "user")
_OF_LOAD: Final = ("errors", "slow")
"""What load may do. A busy machine answers later, or not at all, and never otherwise."""
_QUEUE_US: Final = np.array([1_000, 3_000, 10_000, 30_000, 100_000, 300_000])
_QUEUES: Final = (
    "below 1 ms",
    "1 to 3 ms",
    "3 to 10 ms",
    "10 to 30 ms",
    "30 to 100 ms",
    "100 to 300 ms",
    "above 300 ms",
)
_DELAY_S: Final = np.array([60, 3600, 86_400, 7 * 86_400])
_DELAYS: Final = ("within a minute", "within an hour", "within a day", "within a week", "later")
_HOUR_US: Final = 3_600_000_000


@dataclass(slots=True)
class _Values:
    """Texts by number, in the order in which they came; None is 0."""

    kind: Kind
    known: dict[str, int] = field(default_factory=dict)
    codes: list[NDArray[np.int32]] = field(default_factory=list)

    def add(self, values: Sequence[str | None], at: int) -> None:
        """The values of some rows, after `at` rows."""
        self.pad(at)
        number = self.known.setdefault
        found = [0 if value is None else number(value, len(self.known) + 1) for value in values]
        self.codes.append(np.array(found, np.int32))

    def pad(self, rows: int) -> None:
        """Rows that had none of it."""
        missing = rows - sum(map(len, self.codes))
        if missing:
            self.codes.append(np.zeros(missing, np.int32))

    def field(self, name: str) -> Field | None:
        """The most frequent ones by name; None where nothing tells rows apart."""
        codes = np.concatenate(self.codes)
        counts = np.bincount(codes, minlength=len(self.known) + 1)
        names = [ABSENT, *self.known]
        if (counts > 0).sum() < 2 and self.kind not in ("version", "process", "refusal"):
            return None
        order = [int(code) for code in np.argsort(-counts, kind="stable") if code]
        kept = order[:_MOST_VALUES]
        places = np.full(len(names), len(kept) + 1, np.int32)
        places[0] = 0
        places[kept] = np.arange(1, len(kept) + 1)
        rest = (_OTHER,) if len(order) > len(kept) else ()
        return Field(name, self.kind, (ABSENT, *(names[code] for code in kept), *rest), _small(places[codes]))


@dataclass(slots=True)
class _Words:
    """Which words each row's text has, as numbers."""

    known: dict[str, int] = field(default_factory=dict)
    rows: list[NDArray[np.int32]] = field(default_factory=list)
    words: list[NDArray[np.int32]] = field(default_factory=list)

    def add(self, column: Array, rows: NDArray[np.intp]) -> None:
        """The texts of rows by their numbers; None has no words."""
        number = self.known.setdefault
        for row, sample in zip(rows.tolist(), column.reshape(len(column), -1).tolist(), strict=True):
            found: set[str] = set()
            for text in sample:
                # Of a long text the beginning: what a text is about is said early, and a page would cost a second.
                words_ = text[:4096].decode(errors="replace").lower() if text else ""
                found.update(_WORD.findall(words_)[:_WORDS_OF_A_TEXT])
            if found:
                words = [number(word, len(self.known)) for word in sorted(found)]
                self.words.append(np.array(words, np.int32))
                self.rows.append(np.full(len(words), row, np.int32))
        if len(self.known) > _MOST_KNOWN_WORDS:
            self._forget()

    def _forget(self) -> None:
        """Drop the rarer half of the words, so that names and numbers in texts do not fill the memory.

        Of a word that begins to be frequent later, the few rows before are lost.
        """
        words, rows = np.concatenate(self.words), np.concatenate(self.rows)
        counts = np.bincount(words, minlength=len(self.known))
        kept = np.sort(np.argsort(-counts, kind="stable")[: _MOST_KNOWN_WORDS // 2])
        places = np.full(len(counts), -1, np.int32)
        places[kept] = np.arange(len(kept), dtype=np.int32)
        names = list(self.known)
        self.known = {names[word]: place for place, word in enumerate(kept.tolist())}
        there = places[words] >= 0
        self.words, self.rows = [places[words[there]]], [rows[there]]

    def fields(self, rows: int) -> Iterator[Field]:
        """A field each for the words that most rows have, whether they are bad or not; not for those that nearly all have."""
        if not self.words:
            return
        words, places = np.concatenate(self.words), np.concatenate(self.rows)
        counts = np.bincount(words, minlength=len(self.known))
        names = list(self.known)
        for word in np.argsort(-counts, kind="stable")[:_MOST_WORDS].tolist():
            if 10 <= counts[word] <= 0.98 * rows:
                codes = np.zeros(rows, np.uint8)
                codes[places[words == word]] = 1
                yield Field(f"word {names[word]}", "word", (ABSENT, "present"), codes)


class Encoder:
    """Takes rows as `drawing` reads them, keeps small integers of each, and gives a table of all.

    Args:
        versions: of the model.
        baseline: of the version that the rows are compared with; None where none has one.
        about: kind of the bad rows.
        blanked: see `decode_inputs`.
    """

    def __init__(
        self, versions: Sequence[RecordedVersion], baseline: Baseline | None, about: str, blanked: Collection[str] = ()
    ) -> None:
        self._versions = {version.id: version for version in versions}
        self._about = about
        self._blanked = blanked
        # Of a refused call no input is recorded, and of one that failed no version: nothing there is nothing to compare.
        self._answered = about not in ("errors", "refusals")
        self._sent = about != "refusals"
        inputs = [each for each in baseline.features if each.side == "input"] if baseline and self._sent else []
        self._features = inputs[:_MOST_FEATURES]
        self._codes: list[list[Array]] = [[] for _ in self._features]
        self._numbers: list[list[Array]] = [[] for _ in self._features]
        self._values: dict[str, _Values] = {}
        self._words = _Words()
        self._ids: list[bytes] = []
        self._bad: list[Array] = []
        self._weight: list[Array] = []
        self._base: list[Array] = []
        self._at: list[Array] = []
        self.rows = 0
        self.missing: Counter[str] = Counter()

    def add(self, rows: Sequence[Any], shares: tuple[float, float], *, base: bool) -> None:
        """Keep some rows.

        Args:
            rows: of the statement `draw`.
            shares: of the bad rows and of the others that were drawn.
            base: whether they are of the usual time.
        """
        if not rows:
            return
        ids = b"".join([row["id"].bytes for row in rows])
        bad = np.array([row["bad"] for row in rows], np.bool_)
        kept = np.array([row["incl_prob"] for row in rows], np.float64)
        self._keep(ids, times_ms(ids) * 1000, bad, 1 / kept / np.where(bad, *shares), base=base)
        if self._sent:
            self._inputs(rows)
        self._tags([row["tags"] for row in rows])
        self._who(rows)
        self.rows += len(rows)

    def add_refusals(self, rows: Sequence[Any], share: float, *, base: bool) -> None:
        """Keep some refused calls, which are bad and have no sample."""
        if not rows:
            return
        at = np.array([int(row["at"].timestamp() * 1_000_000) for row in rows], np.int64)
        count = len(rows)
        self._keep(bytes(16 * count), at, np.ones(count, np.bool_), np.full(count, 1 / share), base=base)
        signature = self._versions[max(self._versions)].signature
        reasons: list[str | None] = [
            reason_of(row["code"], row["kind"], row["pointer"], row["excerpt"], signature) for row in rows
        ]
        self._add("refused", "refusal", reasons)
        self._tags([row["tags"] for row in rows])
        self.rows += count

    def _keep(self, ids: bytes, at_us: Array, bad: Array, weight: Array, *, base: bool) -> None:
        self._ids.append(ids)
        self._at.append(at_us)
        self._bad.append(bad)
        self._weight.append(weight)
        self._base.append(np.full(len(bad), base))

    def _inputs(self, rows: Sequence[Any]) -> None:
        newest = max(self._versions)
        versions = np.array([row["version_id"] or newest for row in rows])
        codes = [np.zeros(len(rows), np.uint8 if each.bins < 255 else np.uint16) for each in self._features]
        numbers = [np.full(len(rows), np.nan, np.float32) for _ in self._features]
        for version in np.unique(versions).tolist():
            signature = self._versions[version].signature
            places = np.flatnonzero(versions == version)
            raw = [RawInputs(rows[at]["inputs"], rows[at]["vector"], rows[at]["tensors"]) for at in places.tolist()]
            decoded = decode_inputs(signature, raw, blanked=self._blanked)
            self.missing.update(reason for reason in decoded.why_not if reason)
            for at, feature in enumerate(self._features):
                if feature.tensor not in decoded.columns:
                    continue
                column, missing = decoded.columns[feature.tensor], decoded.missing[feature.tensor]
                # Where elements are hidden the others are what was sent.
                there = ~missing | _has_nan(column)
                if not there.any():
                    continue
                bins, read = bins_of(feature, column[there])
                hidden = missing[there] & (False if read is None else np.isnan(read))
                codes[at][places[there]] = np.where(hidden, 0, bins + 1)
                if read is not None:
                    numbers[at][places[there]] = read
            for spec in signature.inputs:
                if spec.dtype == STRING and not spec.variable:
                    self._words.add(decoded.columns[spec.name], self.rows + places)
        for at in range(len(self._features)):
            self._codes[at].append(codes[at])
            self._numbers[at].append(numbers[at])

    def _tags(self, documents: Sequence[str | None]) -> None:
        found: dict[str, list[str | None]] = {}
        for row, document in enumerate(documents):
            for name, value in (_decoded(document) if document else {}).items():
                if name not in found:
                    found[name] = [None] * len(documents)
                found[name][row] = str(value)
        for name, values in found.items():
            self._add(f"tag {name}", "tag", values)

    def _who(self, rows: Sequence[Any]) -> None:
        if not self._sent:
            return
        self._add("caller", "caller", [row["caller"] for row in rows])
        if self._about in _OF_LOAD:
            # Of good rows, beside errors too: where all wait longer, it is load.
            self._add("bucket", "bucket", [_text(row["bucket"]) for row in rows])
            queue = np.searchsorted(_QUEUE_US, [row["queue_us"] or 0 for row in rows], side="right").tolist()
            # How long slow rows waited is what makes them slow; how long the others did says whether everybody waits.
            unknown = [row["queue_us"] is None or (self._about == "slow" and row["bad"]) for row in rows]
            self._add(
                "queue", "bucket", [None if lost else _QUEUES[at] for at, lost in zip(queue, unknown, strict=True)]
            )
        if not self._answered:
            return
        numbers = {version.id: str(version.version) for version in self._versions.values()}
        self._add("version", "version", [numbers.get(row["version_id"]) for row in rows])
        self._add("process", "process", [row["process"] for row in rows])
        self._add("role", "role", [row["role"] for row in rows])
        self._add("label", "label", [row["label"] for row in rows])
        self._add("issue", "cluster", [_text(row["issue_id"]) for row in rows])
        if self._about == "wrong":
            self._add("label given", "label", [row["true_label"] for row in rows])
            self._add("label source", "label", [row["label_source"] for row in rows])
            delays = np.searchsorted(_DELAY_S, [row["label_delay_s"] or 0.0 for row in rows]).tolist()
            self._add("label delay", "label", [_DELAYS[at] for at in delays])

    def _add(self, name: str, kind: Kind, values: Sequence[str | None]) -> None:
        if name in self._values or any(value is not None for value in values):
            self._values.setdefault(name, _Values(kind)).add(values, self.rows)

    def table(self) -> Table:
        """All rows that were kept.

        Raises:
            ValueError: there are none.
        """
        at_us = np.concatenate(self._at)
        base = np.concatenate(self._base)
        for values in self._values.values():
            values.pad(self.rows)
        who = [found for name, values in self._values.items() if (found := values.field(name)) is not None]
        return Table(
            at_us,
            np.concatenate(self._bad),
            base,
            np.concatenate(self._weight),
            self._clients(),
            tuple(chain(who, self._hours(at_us, base), self._of_inputs(), self._words.fields(self.rows))),
            np.frombuffer(b"".join(self._ids), "V16"),
        )

    def _clients(self) -> NDArray[np.int32]:
        """Who sent each row: the caller, or else the tag that is most likely to name one."""
        tags = sorted(name for name in self._values if name.startswith("tag "))
        named = [f"tag {name}" for name in _CLIENTS if f"tag {name}" in self._values]
        for name in ("caller", *named, *tags):
            if name in self._values:
                return np.concatenate(self._values[name].codes)
        return np.zeros(self.rows, np.int32)

    def _hours(self, at_us: Array, base: Array) -> Iterator[Field]:
        """The hour of the day, where the usual time has all hours of the other: else it would only say when it happened."""
        hours = at_us // _HOUR_US % 24
        now, before = np.unique(hours[~base]), np.unique(hours[base])
        if len(now) > 1 and np.isin(now, before).all():
            yield Field("hour", "hour", (ABSENT, *(f"{hour:02}" for hour in range(24))), (hours + 1).astype(np.uint8))

    def _of_inputs(self) -> Iterator[Field]:
        for feature, codes, numbers in zip(self._features, self._codes, self._numbers, strict=True):
            read = np.concatenate(numbers) if feature.reading == "element" else None
            yield Field(f"input {feature.name}", "input", (ABSENT, *feature.labels()), np.concatenate(codes), read)


def bins_of(feature: Feature, column: Array) -> tuple[NDArray[np.intp], Array | None]:
    """The bin of each row in a baseline's feature, and the number that was read; None for a text.

    The same reading and the same cuts as `versions.binning`, which counts where this tells rows apart.

    Args:
        feature: of an input.
        column: `(rows, ...)`; texts are `bytes`.
    """
    if feature.reading == "category":
        places = {name.encode(): place for place, name in enumerate(feature.categories)}
        other = len(places)
        return np.array([places.get(value, other) for value in column.ravel().tolist()], np.intp), None
    if column.dtype == object:
        numbers = texts(column, feature.reading) if _is_text(column) else _each(feature, column)
    elif feature.reading == "element":
        numbers = column.reshape(len(column), -1)[:, feature.element]
    else:
        numbers = measure(column, feature.reading)
    wide = numbers.astype(np.float32) if numbers.dtype in (np.float16, np.bool_) else numbers
    # Cuts are values of the tensor's own dtype, or next to one: nothing is lost in float32.
    cuts = np.array(feature.cuts, np.float32 if wide.dtype == np.float32 else np.float64)
    places_ = np.searchsorted(cuts, wide, side="right")
    if wide.dtype.kind == "f":
        # NaN has a bin of its own where the baseline counts it; elsewhere it stands with what is greatest.
        places_[np.isnan(wide)] = len(cuts) + feature.missing
    return places_, wide.astype(np.float32)


def _each(feature: Feature, column: Array) -> Array:
    """Of an input with variable dimensions, an array a row."""
    return np.array([measure(np.asarray(one)[np.newaxis], feature.reading)[0] for one in column], np.float64)


def _has_nan(column: Array) -> Array:
    """Which rows of an input have a NaN, bool `(rows,)`; none of what is no array of floats."""
    if column.dtype.kind != "f":
        return np.zeros(len(column), np.bool_)
    return np.asarray(np.isnan(column).any(axis=tuple(range(1, column.ndim))))


def _is_text(column: Array) -> bool:
    first = column.ravel()[0] if column.size else None
    return isinstance(first, bytes) or (isinstance(first, np.ndarray) and first.dtype == object)


def _decoded(document: str) -> Mapping[str, Any]:
    found = msgspec.json.decode(document)
    return found if isinstance(found, dict) else {}


def _small(codes: NDArray[np.int32]) -> Codes:
    return codes.astype(np.uint8)  # `_MOST_VALUES` and two more fit


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
