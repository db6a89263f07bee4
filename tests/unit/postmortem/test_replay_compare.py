"""What becomes of each sample, on files of a few rows whose answers are known."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from fractions import Fraction
from math import comb
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hoverboard.contract.signature import Signature, TensorSpec
from hoverboard.errors import ConfigError
from hoverboard.offline.rows import RowChunk, RowPosition
from hoverboard.postmortem.replay_answers import Woven, aligned
from hoverboard.postmortem.replay_compare import Compared, Tolerance, compare, mid_p
from hoverboard.postmortem.replay_gate import parse_gate
from hoverboard.postmortem.replay_rendering import as_html, sections, sentences
from hoverboard.postmortem.replay_result import KINDS, ReplayIncumbent, ReplayResult, ReplaySide, Speed
from hoverboard.postmortem.replay_speed import speeds
from tests.records import signature

TOLERANCE = Tolerance(1e-5, 1e-4)
CLASSES = signature(
    TensorSpec("x", "float32", ()), outputs=[TensorSpec("p", "float32", (2,))], task="classification", labels=("a", "b")
)
NUMBER = signature(TensorSpec("x", "float32", ()), outputs=[TensorSpec("y", "float32", ())], task="regression")
VECTOR = signature(TensorSpec("x", "float32", ()), outputs=[TensorSpec("z", "float32", (2,))], task="embedding")


def answers(path: Path, rows: int, said: dict[str, Any], **more: Any) -> Path:
    """A file with as much of a prediction's columns as a comparison reads."""
    columns: dict[str, Any] = {
        "incl_prob": pa.array([1.0] * rows, pa.float64()),
        "p_value": pa.array([None] * rows, pa.float32()),
        "outlier": pa.array([None] * rows, pa.bool_()),
        "true_label": pa.array([None] * rows, pa.string()),
        "true_labels": pa.array([None] * rows, pa.list_(pa.string())),
        "true_value": pa.array([None] * rows, pa.float64()),
    }
    for name, values in {**said, **more}.items():
        kind = columns[name].type if name in columns else None
        columns[name] = pa.array(values, kind)
    # Row groups of odd sizes: files of the same rows need not have the same ones.
    pq.write_table(pa.table(columns), path, row_group_size=1 + len(path.name) % 5)
    return path


def classes(path: Path, labels: Sequence[str | None], **more: Any) -> Path:
    confidences = [None if label is None else 0.9 for label in labels]
    return answers(path, len(labels), {"label": labels, "confidence": confidences}, **more)


def compared(folder: Path, known: Signature, record: Path, candidate: Path, *runs: Path) -> tuple[list[str], Compared]:
    del folder
    found = compare(record, runs, candidate, known, TOLERANCE)
    return [KINDS[code] for code in found.codes.tolist()], found


def test_labels_and_truths_say_of_which_kind_a_sample_is(tmp_path: Path) -> None:
    record = classes(
        tmp_path / "record",
        ["a", "a", "a", "a", "b", "a", "a"],
        true_label=[None, None, "b", "a", "a", "a", "b"],
        incl_prob=[1, 0.5, 0.5, 0.1, 1, 1, 1],
    )
    candidate = classes(tmp_path / "candidate", ["a", "b", "b", "b", "c", "b", None])
    again = classes(tmp_path / "again", ["a", "a", "a", "a", "b", "b", "a"])
    kinds, found = compared(tmp_path, CLASSES, record, candidate, again)
    assert kinds == ["same", "changed", "fixed", "broken", "changed", "noise", "changed"]
    counts = {kind: found.kinds[kind].rows for kind in KINDS}
    assert counts == {**{kind: kinds.count(kind) for kind in KINDS}, "failed": 1}
    assert found.kinds["broken"].estimate == pytest.approx(10) and found.kinds["changed"].estimate == pytest.approx(4)
    assert (found.labelled.rows, found.labelled.mcnemar.more, found.labelled.mcnemar.less) == (4, 1, 1)
    assert found.labelled.incumbent == pytest.approx(10 / 14) and found.labelled.candidate == pytest.approx(2 / 14)
    assert [(move.before, move.after, move.rows) for move in found.moves] == [("a", "b", 3), ("b", "c", 1)]
    assert found.moves[0].estimate == pytest.approx(2 + 2 + 10)
    assert (found.sign_test.more, found.sign_test.less) == (5, 0)
    shown = {each.row: each for each in found.found}
    assert sorted(shown) == [1, 2, 3, 4, 5, 6]
    assert (shown[3].recorded, shown[3].candidate, shown[3].truth) == ("a (0.900)", "b (0.900)", "a")
    assert shown[6].candidate == "no answer"


def test_repetition_alone_is_noise_and_speaks_against_the_sign_test(tmp_path: Path) -> None:
    record = classes(tmp_path / "record", ["a"] * 20)
    again = classes(tmp_path / "again", ["b"] * 4 + ["a"] * 16)
    candidate = classes(tmp_path / "candidate", ["a"] * 15 + ["b"] * 5)
    kinds, found = compared(tmp_path, CLASSES, record, candidate, again)
    assert kinds == ["noise"] * 4 + ["same"] * 11 + ["changed"] * 5
    assert (found.sign_test.more, found.sign_test.less, found.noise_floor.differing) == (5, 4, 4)
    assert found.sign_test.mid_p > 0.5


def values(path: Path, numbers: Any, **more: Any) -> Path:
    return answers(path, len(numbers), {"value": [float(x) for x in numbers]}, **more)


def test_numbers_within_the_tolerance_or_within_what_repetition_differs_by_are_the_same(tmp_path: Path) -> None:
    truth = np.arange(1000.0)
    record = values(tmp_path / "record", truth)
    kinds, _ = compared(
        tmp_path, NUMBER, record, values(tmp_path / "c1", truth * 1.00009), values(tmp_path / "a1", truth)
    )
    assert set(kinds) == {"same"}
    kinds, _ = compared(
        tmp_path, NUMBER, record, values(tmp_path / "c2", truth * 1.0003), values(tmp_path / "a2", truth)
    )
    assert kinds[:1] == ["same"] and set(kinds[1:]) == {"changed"}
    # The incumbent itself moves by up to 0.5: that much is no change.
    moving = truth + np.random.default_rng(1).uniform(-0.5, 0.5, 1000)
    kinds, found = compared(
        tmp_path, NUMBER, record, values(tmp_path / "c3", truth + 0.3), values(tmp_path / "a3", moving)
    )
    assert 0.49 < found.noise_floor.quantile <= 0.5 and kinds.count("changed") == 0 and kinds.count("noise") <= 1
    kinds, _ = compared(tmp_path, NUMBER, record, values(tmp_path / "c4", truth + 0.7), values(tmp_path / "a4", moving))
    assert kinds.count("changed") >= 999


def test_a_number_is_fixed_or_broken_where_its_error_changes_by_more_than_the_floor(tmp_path: Path) -> None:
    record = values(tmp_path / "record", [10, 10, 10, 10], true_value=[12, 8, 11, None])
    candidate = values(tmp_path / "candidate", [12, 12, 12, 12])
    kinds, found = compared(tmp_path, NUMBER, record, candidate, values(tmp_path / "again", [10, 10, 10, 10]))
    assert kinds == ["fixed", "broken", "changed", "changed"]
    assert found.labelled.incumbent == pytest.approx(5 / 3) and found.labelled.candidate == pytest.approx(5 / 3)


def test_where_the_candidate_gives_no_answer_it_breaks_what_was_right_and_changes_the_rest(tmp_path: Path) -> None:
    truths = ["a", "a", "a", "b", None, "a", "a"]
    flags: dict[str, Any] = {"p_value": [0.001] * 7, "outlier": [True] * 7}
    record = classes(tmp_path / "record", ["a"] * 7, true_label=truths, **flags)
    candidate = classes(tmp_path / "candidate", ["a", "b", None, None, None, None, None])
    # A repetition without an answer is nothing to blame the candidate for; one with another answer is not like none.
    again = classes(tmp_path / "again", ["a", "a", "a", "a", "a", "b", None])
    kinds, found = compared(tmp_path, CLASSES, record, candidate, again)
    assert kinds == ["same", "broken", "broken", "changed", "changed", "broken", "noise"]
    assert (found.kinds["failed"].rows, found.labelled.rows, found.labelled.failed) == (5, 5, 2)
    assert found.labelled.candidate == pytest.approx(1 / 5) and found.labelled.mcnemar.more == 3
    assert (found.sign_test.more, found.sign_test.less, found.flags.vanished) == (4, 0, 0)
    assert [each.candidate for each in found.found if each.kind == "broken"] == ["no answer", "no answer", "b (0.900)"]


def test_no_number_is_further_off_than_any(tmp_path: Path) -> None:
    record = values(tmp_path / "record", [10, 10, 10], true_value=[90, 11, None])
    candidate = answers(tmp_path / "candidate", 3, {"value": [None, 11.0, None]})
    kinds, found = compared(tmp_path, NUMBER, record, candidate)
    assert kinds == ["broken", "fixed", "changed"] and (found.kinds["failed"].rows, found.labelled.failed) == (2, 1)
    assert (found.labelled.incumbent, found.labelled.candidate) == (1.0, 0.0)  # where both answer


def test_outputs_are_compared_number_by_number(tmp_path: Path) -> None:
    def outputs(path: Path, rows: list[Any]) -> Path:
        return answers(path, len(rows), {"outputs": [None if row is None else {"z": row} for row in rows]})

    record = outputs(tmp_path / "record", [[0.0, 1.0]] * 4)
    candidate = outputs(tmp_path / "candidate", [[0.0, 1.0], [0.0, 1.1], [0.0], None])
    kinds, found = compared(tmp_path, VECTOR, record, candidate, outputs(tmp_path / "again", [[0.0, 1.0]] * 4))
    assert kinds == ["same", "changed", "changed", "changed"] and found.kinds["failed"].rows == 1
    assert found.found[1].candidate == "no answer" and found.noise_floor.of == "outputs"


def test_flags_of_both_are_counted_by_their_weight(tmp_path: Path) -> None:
    said: dict[str, Any] = {"p_value": [0.5, 0.001, 0.002, 0.9], "outlier": [False, True, True, False]}
    record = classes(tmp_path / "record", ["a"] * 4, incl_prob=[0.5, 1, 1, 1], **said)
    candidate = classes(
        tmp_path / "candidate", ["a"] * 4, p_value=[0.001, 0.001, 0.5, 0.9], outlier=[True, True, False, False]
    )
    _, found = compared(tmp_path, CLASSES, record, candidate)
    assert (found.flags.appeared, found.flags.vanished) == (1, 1)
    assert found.flags.incumbent == pytest.approx(2 / 5) and found.flags.candidate == pytest.approx(3 / 5)
    assert found.flags.incumbent_median == pytest.approx(0.251)
    _, found = compared(tmp_path, CLASSES, record, classes(tmp_path / "plain", ["a"] * 4))
    assert found.flags.candidate is None and (found.flags.appeared, found.flags.vanished) == (0, 0)


@given(st.integers(0, 60), st.integers(0, 60))
def test_the_mid_p_value_is_that_of_exact_fractions(one: int, other: int) -> None:
    n, least = one + other, min(one, other)
    below = sum(Fraction(comb(n, k), 2**n) for k in range(least))
    exact = min(Fraction(1), 2 * (below + Fraction(comb(n, least), 2**n) / 2))
    assert mid_p(one, other) == pytest.approx(float(exact), rel=1e-9)
    assert mid_p(one, other) == mid_p(other, one)


def test_the_mid_p_value_of_many_is_finite() -> None:
    assert mid_p(200_000, 200_000) == pytest.approx(1.0, abs=1e-6)
    assert mid_p(0, 5000) == 0.0 and mid_p(0, 0) == 1.0


def a_result(tmp_path: Path, labels: list[str], now: Sequence[str | None], truths: list[str | None]) -> ReplayResult:
    from datetime import UTC, datetime

    record = classes(tmp_path / "record", list(labels), true_label=truths)
    found = compare(record, (), classes(tmp_path / "candidate", list(now)), CLASSES, TOLERANCE)
    at = datetime(2026, 11, 30, tzinfo=UTC)
    return ReplayResult(
        model="<m>",
        incumbent=ReplaySide(1, "ab"),
        incumbents=[ReplayIncumbent(1, "ab", len(labels))] if labels else [],
        candidate=ReplaySide(2, "cd"),
        start=at,
        end=at,
        where={"tag.a": "<b>"},
        unless={"tag.b": ("<c>",)},
        labelled_only=False,
        issue=None,
        without_issues=(),
        without_outliers=False,
        rows=len(labels),
        left_out={"redacted": 3},
        noise_floor=found.noise_floor,
        kinds=found.kinds,
        sign_test=found.sign_test,
        numbers_differing=found.numbers_differing,
        labelled=found.labelled,
        flags=found.flags,
        moves=found.moves,
        examples=[],
        speed=Speed(None, 1000.0),
        seconds=1.0,
    )


def test_gates_hold_for_rows_and_for_shares(tmp_path: Path) -> None:
    # 2 of 10 labelled ones break, 1 of 20 changes without a label.
    result = a_result(tmp_path, ["a"] * 20, ["b"] * 2 + ["a"] * 17 + ["b"], ["a"] * 10 + [None] * 10)
    assert [
        parse_gate(text).holds(result) for text in ("broken>19%", "broken>20%", "broken>=20%", "broken>1", "broken>2")
    ] == [
        True,
        False,
        True,
        True,
        False,
    ]
    assert parse_gate("changed >= 5%").holds(result) and not parse_gate("changed>5%").holds(result)
    assert parse_gate("fixed<1").holds(result) and parse_gate("same==17").holds(result)


def test_no_gate_passes_a_candidate_that_fails(tmp_path: Path) -> None:
    result = a_result(tmp_path, ["a"] * 10, ["a"] * 2 + [None] * 8, ["a"] * 5 + [None] * 5)
    for text in ("broken>50%", "broken>2", "changed>40%", "differs>70%", "failed>70%", "failed==8", "same<50%"):
        assert parse_gate(text).holds(result), text
    words = "\n".join(sentences(result))
    assert "Version 2 gives no answer to 8 of them (80.0%)." in words and "breaks 3, 3 of them by no answer" in words
    kinds = {row[0]: row[1] for row in next(iter(sections(result))).rows}
    assert kinds == {"same": "2", "changed": "5", "fixed": "0", "broken": "3", "noise": "0", "failed": "8"}


def test_a_gate_that_cannot_be_told_is_no_pass(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none of the 1 samples is labelled .*hoverboard label"):
        parse_gate("broken>1%").holds(a_result(tmp_path, ["a"], ["b"], [None]))
    nothing = a_result(tmp_path, [], [], [])
    with pytest.raises(ConfigError, match=r"all 3 samples were left out: 3 redacted, by `redact` in serving.toml"):
        parse_gate("changed>1").holds(nothing)
    with pytest.raises(ConfigError, match=r"no sample of <m> .* that meets all conditions is recorded: --from"):
        parse_gate("changed<1").holds(msgspec.structs.replace(nothing, left_out={}))


@pytest.mark.parametrize("text", ["", "broken", "broken>", "bad>1", "broken>1%%", "broken>-1", "broken=1"])
def test_what_is_no_gate_is_told_with_one_that_is(text: str) -> None:
    with pytest.raises(ConfigError, match=r"broken>0.5%"):
        parse_gate(text)


def test_what_is_shown_says_it_in_words_and_the_page_holds_no_markup_of_others(tmp_path: Path) -> None:
    result = a_result(tmp_path, ["a"] * 4, ["b", "a", "a", "a"], ["a", "a", None, None])
    words = "\n".join(sentences(result))
    assert "4 samples of <m> that version 1 answered: version 2 answers 3 of them the same (75.0%)." in words
    assert "it fixes 0 and breaks 1" in words and "right in 50.00%, the record in 100.00%" in words
    assert "Left out: 3, redacted, by `redact` in serving.toml" in words and "was not run again" in words
    assert [section.title for section in sections(result)] == ["Samples by kind", "Labels that move", "Speed here"]
    page = as_html(result)
    assert (
        "<m>" not in page
        and "&lt;m&gt;" in page
        and "tag.a = &lt;b&gt;, tag.b != &lt;c&gt;" in page
        and "<script" not in page
    )
    empty = "\n".join(sentences(a_result(tmp_path, [], [], [])))
    assert empty.startswith("No sample was replayed: all 3 samples were left out: 3 redacted")
    itself = msgspec.structs.replace(result, candidate=result.incumbent)
    assert "Version 1 had answered them itself: this shows what repetition changes" in "\n".join(sentences(itself))
    twin = msgspec.structs.replace(result, candidate=ReplaySide(2, "ab"))
    assert "Version 2 has the same weights as one that had answered" in "\n".join(sentences(twin))
    several = msgspec.structs.replace(result, incumbents=[ReplayIncumbent(1, "ab", 3), ReplayIncumbent(4, "ef", 1)])
    told = "\n".join(sentences(several))
    assert "that version 1 or 4 answered" in told and "had answered it: version 1 3, version 4 1." in told


def test_answers_of_several_versions_are_woven_in_the_order_of_all_rows(tmp_path: Path) -> None:
    turns = np.random.default_rng(3).integers(1, 4, 1000)
    pq.write_table(
        pa.table({"model_version": turns, "sample_id": np.arange(1000)}), tmp_path / "all", row_group_size=77
    )
    for number in (1, 2, 3):
        pq.write_table(pa.table({"value": np.flatnonzero(turns == number)}), tmp_path / str(number), row_group_size=31)
    woven = Woven(tmp_path / "all", {number: tmp_path / str(number) for number in (1, 2, 3)})
    for size in (1, 97, 5000):
        both = list(aligned([tmp_path / "all", woven], size))
        assert [value for _, table in both for value in table["value"].to_pylist()] == list(range(1000))
        assert all(one.num_rows == other.num_rows <= size for one, other in both)


class _Slow:
    """Answers in its time, but for its first calls."""

    def __init__(self, seconds: float, first: float) -> None:
        self.seconds, self.first, self.calls = seconds, first, 0

    async def score(self, chunk: RowChunk) -> None:
        self.calls += 1
        await asyncio.sleep(self.first if self.calls == 1 else self.seconds)


class _Rows:
    def chunks(self, start: RowPosition, rows: int) -> Iterator[RowChunk]:
        yield from (RowChunk([0] * rows, {}, start) for _ in range(20))


def test_versions_are_timed_warm_and_by_turns() -> None:
    one, other = _Slow(0.02, first=0.5), _Slow(0.04, first=0.0)
    first, second = asyncio.run(
        speeds([(cast("Any", one), cast("Any", _Rows())), (cast("Any", other), cast("Any", _Rows()))], 10)
    )
    assert one.calls == other.calls > 5
    assert 1.4 < first / second < 2.6
