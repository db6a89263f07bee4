import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from hoverboard.contract.catalog import Catalog, ModelStatus, VersionStatus
from hoverboard.engine.recording.sink import JournalSink, hashing_key
from hoverboard.errors import Overloaded
from hoverboard.journal.columns import column_array
from hoverboard.journal.records import BatchRecord, DeploymentRecord, FeatureRecord, GapEntry, decode
from hoverboard.journal.writer import JournalFull
from tests.unit.engine.recording.batches import SOURCE, batch, call

KEY = b"k" * 32


class Writer:
    """Stands for a journal: remembers what was appended and shed, or is full."""

    def __init__(self) -> None:
        self.records: list[Any] = []
        self.counts: list[int] = []
        self.needs: list[set[str]] = []
        self.gaps: list[GapEntry] = []
        self.over_budget = self.short_of_room = False
        self.full = self.no_gap = False

    def append(self, kind: int, payload: bytes, *, count: int, needs: Any = ()) -> None:
        if self.full:
            raise JournalFull("no space left")
        record = decode(payload)
        assert record.__struct_config__.tag == kind
        self.records.append(record)
        self.counts.append(count)
        self.needs.append(set(needs))

    def shed(self, entries: Sequence[GapEntry]) -> None:
        if self.no_gap:
            raise JournalFull("no space left")
        self.gaps += entries


@pytest.fixture
def writer() -> Writer:
    return Writer()


@pytest.fixture
def sink(writer: Writer) -> JournalSink:
    return JournalSink(writer, KEY)  # type: ignore[arg-type]  # it has what the sink uses


def catalog(stable: int | None = 2, *, actor: str = "disk", named: int | None = None, **recording: Any) -> Catalog:
    versions = tuple(VersionStatus(n, "live", manifest={"weights_sha256": f"w{n}"}) for n in (1, 2))
    serving = {"stable": named, "recording": {"policy": "all", "redact": [], **recording}}
    roles = {} if stable is None else {"stable": stable}
    return Catalog({"shapes": ModelStatus("shapes", roles, versions, serving=serving, routed_by=actor)}, 1, ready=True)


def only(writer: Writer) -> BatchRecord:
    (record,) = writer.records
    assert isinstance(record, BatchRecord)
    return record


def test_a_batch_is_one_record_with_all_there_is_to_know(sink: JournalSink, writer: Writer) -> None:
    calls = (
        (call(3, tags={"customer": "17"}, traceparent="00-a-b-01"), 0, 3),
        (call(5, version=2, request_id="r-2"), 4, 1),
    )
    executed = batch(4, calls=calls, ok=np.array([True, True, False, True]))
    sink.append(executed)
    record = only(writer)
    assert writer.counts == [4]
    assert writer.needs == [{f"shapes/2/{SOURCE.weights_sha256}"}]
    assert (record.model, record.version, record.weights_sha256) == ("shapes", 2, SOURCE.weights_sha256)
    assert (record.executed, record.rows, record.failed, record.failed_rows) == (4, 4, 1, [2])
    assert (record.bucket, record.infer_us, record.started_us) == (8, 700, 1_790_000_000_250_000)
    assert record.sample_ids == executed.sample_ids
    assert record.batch_id == executed.sample_ids[:16]
    assert [column_array(column).tobytes() for column in record.columns[::2]] == [
        executed.columns[0].tobytes(),
        executed.columns[2].tobytes(),
    ]
    assert column_array(record.columns[1]).tolist() == executed.columns[1].tolist()
    assert column_array(record.outputs[0]).tobytes() == executed.outputs[0].tobytes()
    assert np.frombuffer(record.queue_us, np.uint32).tolist() == [0, 1, 2, 3]
    assert [(part.rows, part.role, part.request_id, part.tags) for part in record.calls] == [
        (3, "stable", "r-1", b'{"customer":"17"}'),
        (1, None, "r-2", None),
    ]
    assert record.calls[0].traceparent == "00-a-b-01"


def test_a_sampled_batch_says_which_rows_of_which_call_were_kept_and_why(sink: JournalSink, writer: Writer) -> None:
    sink.follow(catalog(None, policy="sampled", share=0.0))
    calls = tuple((call(2, request_id=f"r-{i}"), 0, 2) for i in range(3))
    outlier = np.array([False, True, False, False, True, False])
    executed = batch(6, calls=calls, outlier=outlier)
    sink.append(executed)
    record = only(writer)
    assert (record.executed, record.flagged, record.rows) == (6, 2, 2)
    assert [(part.rows, part.request_id) for part in record.calls] == [(1, "r-0"), (1, "r-2")]
    assert record.sample_ids == executed.sample_ids[16:32] + executed.sample_ids[64:80]
    assert record.batch_id == executed.sample_ids[:16]
    assert column_array(record.columns[1]).tolist() == [b"row 1", b"row 4"]


def test_a_row_that_comes_again_counts_once_as_an_outlier(sink: JournalSink, writer: Writer) -> None:
    outlier = np.array([True, False, True])
    sink.append(batch(3, outlier=outlier))
    sink.append(batch(4, outlier=np.array([True, False, True, True])))
    assert [(record.flagged, record.repeats) for record in writer.records] == [(2, 0), (1, 3)]


def marked(executed: Any, last_bytes: Sequence[int]) -> Any:
    """The same batch with ids that end in these bytes."""
    ids = np.frombuffer(executed.sample_ids, np.uint8).reshape(-1, 16).copy()
    ids[:, 15] = last_bytes
    return msgspec.structs.replace(executed, sample_ids=ids.tobytes())


def wanted(sink: JournalSink, executed: Any) -> list[int]:
    told = sink.append(executed)
    assert told is not None
    rows: list[int] = told.tolist()
    return rows


def test_ordinary_rows_whose_features_are_wanted_are_told_by_their_ids(sink: JournalSink, writer: Writer) -> None:
    ok, outlier = np.array([True, True, False, True, True]), np.array([False, True, False, False, False])
    executed = marked(batch(5, ok=ok, outlier=outlier), [12, 0, 3, 13, 0])
    assert wanted(sink, executed) == [0, 4]
    assert sink.append(marked(batch(5, ok=ok, outlier=outlier), [13, 0, 3, 99, 255])) is None
    assert sink.append(marked(batch(2), [0, 0])) is None  # no detector, no features
    writer.short_of_room = True
    assert sink.append(executed) is None
    writer.short_of_room = False
    sink.follow(catalog(None, policy="sampled", share=2 / 256))  # of those it keeps by its share, and by low margins
    close = np.tile(np.array([0.4, 0.39, 0.21], np.float32), (5, 1))
    close[:4] = [0.9, 0.08, 0.02]
    sampled = marked(batch(5, outlier=outlier, probabilities=close), [1, 0, 2, 13, 12])
    assert wanted(sink, sampled) == [0, 4]


@pytest.mark.parametrize("hidden", [{"policy": "hashed"}, {"policy": "none"}, {"redact": ["/size"]}])
def test_of_hidden_inputs_no_features_are_written(sink: JournalSink, writer: Writer, hidden: dict[str, Any]) -> None:
    sink.follow(catalog(None, **hidden))
    executed = marked(batch(3, outlier=np.array([True, False, False])), [0, 0, 0])
    assert sink.append(executed) is None
    writer.records.clear()
    sink.features(SOURCE, executed.sample_ids, np.ones((3, 2), np.float32))
    assert writer.records == []


def test_features_are_half_floats_of_which_none_is_beyond_what_those_hold(sink: JournalSink, writer: Writer) -> None:
    ids = batch(2).sample_ids
    sink.features(SOURCE, ids, np.array([[1.5, 1e9, -np.inf], [np.nan, -65504, 1e-9]], np.float32))
    (record,) = writer.records
    assert isinstance(record, FeatureRecord)
    assert (record.sample_ids, writer.counts, writer.needs) == (ids, [0], [{f"shapes/2/{SOURCE.weights_sha256}"}])
    expected = np.array([[1.5, 65504, -65504], [np.nan, -65504, 0]])
    np.testing.assert_array_equal(np.frombuffer(record.z, "<f2").reshape(2, 3), expected)
    writer.short_of_room = True
    sink.features(SOURCE, ids, np.ones((2, 3), np.float32))
    assert len(writer.records) == 1


def test_without_a_detector_nothing_is_compared(sink: JournalSink, writer: Writer) -> None:
    sink.append(batch(3))
    sink.append(batch(3))
    assert [(record.flagged, record.repeats) for record in writer.records] == [(0, 0), (0, 0)]


def test_under_none_a_batch_still_leaves_its_counts(sink: JournalSink, writer: Writer) -> None:
    sink.follow(catalog(None, policy="none"))
    sink.append(batch(5, outlier=np.array([True, False, False, False, False])))
    record = only(writer)
    assert (record.executed, record.flagged, record.rows) == (5, 1, 0)
    assert (record.columns, record.outputs, record.calls, record.sample_ids) == ([], [], [], b"")


def test_over_budget_ordinary_rows_are_counted_and_special_ones_kept(sink: JournalSink, writer: Writer) -> None:
    writer.over_budget = True
    sink.append(batch(5))
    sink.append(batch(4, outlier=np.array([False, True, False, False])))
    record = only(writer)
    assert (record.executed, record.rows) == (4, 1)
    assert column_array(record.columns[1]).tolist() == [b"row 1"]
    assert [(gap.reason, gap.records, gap.executed) for gap in writer.gaps] == [
        ("journal budget", 5, 5),
        ("journal budget", 3, 0),
    ]
    kept = sum(record.rows for record in writer.records)
    assert kept + sum(gap.records for gap in writer.gaps) == 9, "nothing is lost uncounted"
    counted = sum(record.executed for record in writer.records) + sum(gap.executed for gap in writer.gaps)
    assert counted == 9


def test_what_cannot_be_written_is_counted_and_answered(sink: JournalSink, writer: Writer) -> None:
    writer.full = True
    sink.append(batch(3, outlier=np.array([True, False, False])))
    (gap,) = writer.gaps
    assert (gap.model, gap.version, gap.records, gap.executed, gap.flagged) == ("shapes", 2, 3, 3, 1)


def test_where_not_even_a_gap_can_be_written_the_calls_are_refused(sink: JournalSink, writer: Writer) -> None:
    writer.full = writer.no_gap = True
    with pytest.raises(Overloaded, match="cannot be recorded"):
        sink.append(batch(3))


def test_a_changed_policy_holds_from_the_next_batch_on(sink: JournalSink, writer: Writer) -> None:
    sink.append(batch(2))
    sink.follow(catalog(None, redact=["/note"]))
    sink.append(batch(2))
    assert [record.redacted for record in writer.records] == [[], ["note"]]
    assert [len(record.columns) for record in writer.records] == [3, 2]


def test_what_serves_is_journaled_when_it_changes(sink: JournalSink, writer: Writer) -> None:
    for known in (
        catalog(1),
        catalog(1),
        catalog(2, actor="admin", named=2),
        Catalog({}, 2, ready=True),
    ):
        sink.follow(known)
    assert all(isinstance(record, DeploymentRecord) for record in writer.records)
    assert [(d.model, d.role, d.version, d.weights_sha256, d.share, d.actor) for d in writer.records] == [
        ("shapes", "stable", 1, "w1", 1.0, "disk"),
        ("shapes", "stable", 2, "w2", 1.0, "admin"),
        ("shapes", "stable", None, "", 0.0, "disk"),
    ]
    assert [d.reason for d in writer.records] == [
        "the highest version that can serve",
        "serving.toml names it",
        "the model is gone",
    ]


def test_an_engine_that_is_still_starting_deploys_nothing(sink: JournalSink, writer: Writer) -> None:
    sink.follow(Catalog(catalog().models, 1, ready=False))
    assert writer.records == []


def test_the_hashing_key_is_made_once_and_is_nobody_elses(tmp_path: Path) -> None:
    key = hashing_key(tmp_path)
    assert len(key) == 32
    assert hashing_key(tmp_path) == key
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("recording", [{"redact": ["/note", "/noet"]}, {"redact": ["/pixels/4"], "policy": "hashed"}])
def test_where_a_pointer_hides_nothing_no_row_is_written_and_all_are_counted(
    sink: JournalSink, writer: Writer, recording: Any
) -> None:
    sink.follow(catalog(None, **recording))
    sink.append(batch(4, outlier=np.array([False, True, False, False])))
    sink.supplement(SOURCE, "knn", batch(1).sample_ids, {"knn": np.ones(1)})
    assert writer.records == []
    assert [(gap.reason, gap.records, gap.executed, gap.flagged) for gap in writer.gaps] == [("redact", 4, 4, 1)]
    sink.follow(catalog(None, redact=["/note"]))
    sink.append(batch(2))
    assert only(writer).redacted == ["note"]


def test_of_a_serving_toml_that_was_never_well_formed_nothing_is_known_and_nothing_is_written(
    sink: JournalSink, writer: Writer
) -> None:
    given = catalog(None)
    (status,) = given.models.values()
    unread = dataclasses.replace(status, problem="serving.toml: no TOML", serving={**status.serving, "unread": True})
    sink.follow(Catalog({"shapes": unread}, 2, ready=True))
    sink.append(batch(3))
    assert (writer.records, [gap.records for gap in writer.gaps]) == ([], [3])


def test_what_is_remembered_of_a_version_goes_with_it(sink: JournalSink) -> None:
    sink.follow(catalog())
    sink.append(batch(2, outlier=np.zeros(2, bool)))
    assert sink._seen and sink._policies and sink._needs
    sink.follow(Catalog({}, 2, ready=True))
    assert not (sink._seen or sink._policies or sink._needs)


def test_engines_that_start_together_agree_on_one_hashing_key(tmp_path: Path) -> None:
    for round_ in range(20):
        (directory := tmp_path / str(round_)).mkdir()
        with ThreadPoolExecutor(8) as threads:
            assert len(set(threads.map(hashing_key, [directory] * 8))) == 1
