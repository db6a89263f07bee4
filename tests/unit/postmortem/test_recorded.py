"""What the recorder writes comes back as it was sent, whatever the signature: through its own rows and a real Postgres."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hoverboard.contract.signature import NUMERIC_DTYPES, STRING, Array, Signature, TensorSpec
from hoverboard.database.connect import Connection
from hoverboard.engine.sample_ids import sample_ids
from hoverboard.journal.records import CallPart
from hoverboard.postmortem.recorded import SampleBlock, recorded_versions, rows_by_version
from hoverboard.postmortem.window import RecordedWindow, RowChoice, parse_where
from hoverboard.recorder.rows.layout import LONGEST
from tests.recorded_tables import WINDOW, Tables
from tests.records import KEY, NOW, record, signature, texts

AT = datetime.fromtimestamp(NOW, UTC)


@pytest.fixture
def tables(database: str) -> Iterator[Tables]:
    found = Tables(database)
    yield found
    found.close()


@pytest.fixture(scope="module")
def one_for_all(postgres: Any, migrated_template: str) -> Iterator[Tables]:
    with postgres.database(migrated_template) as url:
        found = Tables(url)
        yield found
        found.close()


SHAPES = st.lists(st.sampled_from([None, 0, 1, 2, 3]), max_size=3).map(tuple)


@st.composite
def inputs(draw: st.DrawFn) -> tuple[Signature, list[Array]]:
    """Some inputs of any dtype and shape, and a column for each."""
    specs, columns = [], []
    rows = draw(st.integers(1, 4))
    for place in range(draw(st.integers(1, 4))):
        dtype = draw(st.sampled_from([*NUMERIC_DTYPES, STRING]))
        shape: tuple[int | None, ...] = draw(SHAPES)
        name = draw(st.sampled_from(["a", 'a "quoted" name', "sha", "Ω\t", "a\0b"])) + str(place)
        specs.append(TensorSpec(name, dtype, shape, finite=False))
        sizes = [draw(st.integers(0, 3)) if dim is None else dim for dim in shape]
        columns.append(column(draw, dtype, (rows, *sizes)))
    return signature(*specs), columns


def column(draw: st.DrawFn, dtype: str, shape: tuple[int, ...]) -> Array:
    count = int(np.prod(shape))
    if dtype == STRING:
        words = st.one_of(st.binary(max_size=5), st.text(max_size=5).map(str.encode), st.just(b'{"b64": "YQ=="}'))
        flat: Array = np.empty(count, object)
        flat[:] = draw(st.lists(words, min_size=count, max_size=count))
        return flat.reshape(shape)
    # Any bits: NaN, infinities, subnormal numbers and negative zeros among them.
    raw = np.frombuffer(draw(st.binary(min_size=8 * count, max_size=8 * count)), np.uint8)
    if dtype == "bool":
        return (raw[:count] % 2).astype(np.bool_).reshape(shape)
    return raw[: count * np.dtype(dtype).itemsize].view(dtype).reshape(shape)


def same(one: Array, other: Array) -> bool:
    """Equal in every bit but those of a NaN."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype.kind != "f":
        return bool(np.array_equal(one, other))
    return bool(
        np.array_equal(one, other, equal_nan=True)
        and np.array_equal(np.signbit(one[~np.isnan(one)]), np.signbit(other[~np.isnan(other)]))
    )


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(inputs())
def test_inputs_come_back_bit_by_bit_whatever_their_dtype_and_shape(
    one_for_all: Tables, case: tuple[Signature, list[Array]]
) -> None:
    known, columns = case
    sent_record = record(*columns)
    number = one_for_all.filled(known, sent_record)
    (block,) = one_for_all.read(known, [number], block_rows=100)
    # Ids of one millisecond are in no order.
    order = np.argsort(np.frombuffer(sent_record.sample_ids, "S16").astype("V16").tolist(), kind="stable")
    assert block.ids.tolist() == sorted(np.frombuffer(sent_record.sample_ids, "V16").tolist())
    for spec, sent in zip(known.inputs, columns, strict=True):
        got = block.columns[spec.name]
        for row, place in enumerate(order):
            if block.usable[row]:
                value, expected = (np.asarray(each[at], sent.dtype) for each, at in ((got, row), (sent, place)))
                assert same(value, expected), (spec, value, expected)
            else:
                assert block.why_not[row] == "lossy"
                assert any(each.dtype == STRING and None in each.shape[1:] for each in known.inputs)


def arrays(block: SampleBlock, name: str) -> list[Any]:
    return [np.asarray(each).tolist() for each in block.columns[name]]


def in_time(rows: int, second: float = 0.0) -> bytes:
    """Ids in the order of the rows."""
    return b"".join(sample_ids(1, NOW + second + row / 1000) for row in range(rows))


def test_what_was_redacted_is_named_and_what_was_beside_it_is_there(tables: Tables) -> None:
    known = signature(
        TensorSpec("secret", "string", ()),
        TensorSpec("v", "float32", (2,)),
        TensorSpec("words", "string", (2,)),
        TensorSpec("gap", "float64", (), finite=False),
        TensorSpec("n", "int64", (2, 1)),
    )
    words, numbers = (
        texts([b"a", b"b"], [b"c", None], [b"e", b"f"]),
        np.array([[1, 2], [3, 4], [np.nan, 6]], np.float32),
    )
    gaps, counts = np.array([1.0, 2.0, np.nan]), np.arange(6).reshape(3, 2, 1)
    whole = record(texts(b"x", b"y", b"z"), numbers, words, gaps, counts, sample_ids=in_time(3))
    number = tables.filled(known, whole)
    (block,) = tables.read(known, [number])
    assert block.why_not == ["", "redacted", "redacted"]
    assert arrays(block, "v")[:2] == [[1, 2], [3, 4]] and arrays(block, "n") == counts.tolist()
    # NaN is a value where the contract has it, and a hidden one where the policy hides elements of that input.
    (block,) = tables.read(known, [number], blanked=["gap"])
    assert block.why_not == ["", "redacted", "redacted"]
    (block,) = tables.read(
        signature(*known.inputs[:1], TensorSpec("v", "float32", (2,), finite=False), *known.inputs[2:]), [number]
    )
    assert block.why_not == ["", "redacted", ""]
    for hidden in known.inputs:
        given_ = {"secret": texts(b"x"), "v": numbers[:1], "words": words[:1], "gap": gaps[:1], "n": counts[:1]}
        del given_[hidden.name]
        number = tables.filled(known, record(*given_.values(), redacted=[hidden.name]))
        (block,) = tables.read(known, [number])
        assert block.why_not == ["redacted"], hidden
        assert [name for name, missing in block.missing.items() if missing[0]] == [hidden.name]
        assert not block.usable.any()


def test_of_hashes_nothing_is_taken_for_an_input_even_if_one_has_their_name(tables: Tables) -> None:
    digests = np.random.default_rng(1).integers(0, 256, (2, 32), np.uint8)
    for name in ("text", "sha256"):
        known = signature(TensorSpec(name, "string", ()))
        number = tables.filled(known, record(digests, policy="hashed"))
        (block,) = tables.read(known, [number])
        assert block.why_not == ["hashed", "hashed"]
        assert arrays(block, name) == [None, None]
    known = signature(TensorSpec("v", "float32", (2,)), TensorSpec("t", "int8", (1, 1)))
    number = tables.filled(known, record(digests, policy="hashed"))
    (block,) = tables.read(known, [number])
    assert block.why_not == ["hashed", "hashed"]


def test_a_vector_comes_back_from_wherever_its_length_has_sent_it(tables: Tables) -> None:
    known = signature(TensorSpec("v", "uint16", (None,)), TensorSpec("w", "float16", (3,)))
    sent = [np.arange(length, dtype=np.uint16)[np.newaxis] for length in (0, 1, LONGEST, LONGEST + 1)]
    halves = np.array([[1, -0.0, 65504]], np.float16)
    records = [record(each, halves, sample_ids=in_time(1, at)) for at, each in enumerate(sent)]
    number = tables.filled(known, *records)
    (block,) = tables.read(known, [number], block_rows=10)
    assert block.why_not == [""] * 4
    for got, expected in zip(block.columns["v"], sent, strict=True):
        assert same(got, expected[0])
    assert block.columns["w"].dtype == np.float16 and np.signbit(block.columns["w"][:, 1]).all()


def test_inputs_of_another_signature_are_told_and_not_bent_into_shape(tables: Tables) -> None:
    known = signature(TensorSpec("x", "float64", ()), TensorSpec("t", "int32", (2, 2)))
    number = tables.filled(known, record(np.array([0.5]), np.zeros((1, 2, 2), np.int32)))
    for other in (
        signature(TensorSpec("x", "int64", ()), known.inputs[1]),
        signature(TensorSpec("y", "float64", ()), known.inputs[1]),
        signature(TensorSpec("x", "string", (2,)), known.inputs[1]),
        signature(known.inputs[0], TensorSpec("t", "int64", (2, 2))),
        signature(known.inputs[0], TensorSpec("t", "int32", (4, 1))),
    ):
        (block,) = tables.read(other, [number])
        assert block.why_not == ["other inputs"], other.inputs


def test_answers_and_the_last_truth_stand_beside_their_samples(tables: Tables) -> None:
    known = signature(
        TensorSpec("v", "float32", (1,)),
        outputs=[
            TensorSpec("p", "float32", (2,)),
            TensorSpec("word", "string", ()),
            TensorSpec("z", "float64", (1, 2)),
        ],
        task="classification",
        labels=("no", "yes"),
    )
    first, words, z = (
        np.array([[0.75, 0.25], [0.1, 0.9]], np.float32),
        texts(b"a\0", b"b"),
        np.arange(4.0).reshape(2, 1, 2),
    )
    sent = record(
        np.ones((2, 1), np.float32),
        outputs=[first, words, z],
        sample_ids=in_time(2),
        label_index=np.array([0, 1], np.int32).tobytes(),
        confidence=np.array([0.75, 0.9], np.float32).tobytes(),
        p_value=np.array([0.5, 0.001], np.float32).tobytes(),
        outlier=np.array([False, True]).tobytes(),
        incl_prob=np.array([0.05, 1], np.float32).tobytes(),
        why=np.array([1, 2], np.uint8).tobytes(),
        calls=[CallPart(2, "canary", "r", None, b'{"customer": "17"}')],
    )
    number = tables.filled(known, sent)
    ids = [sent.sample_ids[:16], sent.sample_ids[16:]]
    for at, label in ((2, "yes"), (1, "no")):
        tables.execute(
            "insert into labels (sample_id, labelled_at, label, source) values ($1::uuid, to_timestamp($2), $3, 'desk')",
            *(ids[0].hex(), at, label),
        )
    (block,) = tables.read(known, [number], outputs=True)
    one, two = block.answers
    assert one and two
    assert (one.label, one.confidence, one.p_value, one.outlier, one.role) == ("no", 0.75, 0.5, False, "canary")
    assert (two.label, two.outlier) == ("yes", True)
    assert two.confidence == np.float32(0.9)
    assert [same(two.outputs[name], each[1]) for name, each in (("p", first), ("z", z))] == [True, True]
    assert one.outputs["word"][()] == b"a\0"
    assert block.incl_prob.tolist() == [float(np.float32(0.05)), 1.0]
    assert block.tags == [{"customer": "17"}] * 2
    truth, none = block.truths
    assert truth and (truth.label, truth.source) == ("yes", "desk") and none is None
    (block,) = tables.read(known, [number], choice=RowChoice(labelled=True))
    assert block.ids.tobytes() == ids[0] and block.answers[0] and not block.answers[0].outputs


def test_several_labels_and_values_come_back_as_they_were_answered(tables: Tables) -> None:
    odd = 'a "b", {c}\\'
    many = signature(
        TensorSpec("v", "float32", (1,)),
        outputs=[TensorSpec("p", "float32", (2,))],
        task="multi-label",
        labels=("toys", odd),
        head="sigmoid",
    )
    given_ = record(
        np.ones((2, 1), np.float32), outputs=[np.array([[0.6, 0.75], [0, 0]], np.float32)], sample_ids=in_time(2)
    )
    (block,) = tables.read(many, [tables.filled(many, given_)])
    assert [answer and (answer.labels, answer.confidences) for answer in block.answers] == [
        ([odd, "toys"], [0.75, float(np.float32(0.6))]),
        ([], []),
    ]
    told = np.array([123456789.123, 1e-300])
    number = signature(TensorSpec("x", "float32", ()), outputs=[TensorSpec("y", "float64", ())], task="regression")
    given_ = record(np.zeros(2, np.float32), outputs=[told], value=told.tobytes(), sample_ids=in_time(2))
    (block,) = tables.read(number, [tables.filled(number, given_)])
    assert [answer and answer.value for answer in block.answers] == told.tolist()


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_every_row_comes_once_and_in_order_however_large_the_blocks_are(tables: Tables, limit: int) -> None:
    known = signature(TensorSpec("x", "int32", ()))
    sent = record(np.arange(20, dtype=np.int32), sample_ids=sample_ids(10, NOW) + in_time(10, 1))
    number = tables.filled(known, sent)
    # A shadow answered the same samples.
    other = tables.execute(
        "insert into model_versions (name, version, weights_sha256, manifest, first_served_at) "
        "select name, 9, weights_sha256, manifest, now() from model_versions where id = $1 returning id",
        number,
    )
    tables.execute(
        "insert into predictions (at, sample_id, version_id, predicted_at, batch_id, batch_size, bucket, queue_us, infer_us) "
        "select at, sample_id, $1, predicted_at, batch_id, batch_size, bucket, 5, 6 from predictions",
        other,
    )
    blocks = tables.read(known, [number, other], block_rows=limit)
    keys = [
        (id_, answer.version_id)
        for block in blocks
        for id_, answer in zip(block.ids.tolist(), block.answers, strict=True)
        if answer
    ]
    assert keys == sorted(
        (id_, version) for id_ in np.frombuffer(sent.sample_ids, "V16").tolist() for version in (number, other)
    )
    assert all(len(block) == limit for block in blocks[:-1])
    # Going on after any row gives what is left.
    rest = tables.read(known, [number, other], block_rows=limit, after=blocks[0].last)
    assert sum(map(len, rest)) == 40 - len(blocks[0])

    async def counted(connection: Connection) -> tuple[list[int], dict[int, int]]:
        versions = await recorded_versions(connection, KEY[0])
        return [each.version for each in versions], await rows_by_version(connection, WINDOW, versions)

    assert tables.of(counted) == ([KEY[1], 9], {number: 20, other: 20})


def test_conditions_choose_and_the_time_ends_before_its_end(tables: Tables) -> None:
    known = signature(
        TensorSpec("x", "int32", ()),
        outputs=[TensorSpec("p", "float32", (2,))],
        task="classification",
        labels=("no", "yes"),
    )
    calls = [
        CallPart(1, "stable", "r", None, tags) for tags in (b'{"a":"1"}', b'{"a":"1","b":"x"}', b'{"a":"2"}', None)
    ]
    sent = record(
        np.arange(4, dtype=np.int32),
        outputs=[np.zeros((4, 2), np.float32)],
        sample_ids=b"".join(sample_ids(1, NOW + second) for second in range(4)),
        label_index=np.array([0, 1, 1, 1], np.int32).tobytes(),
        confidence=np.ones(4, np.float32).tobytes(),
        failed_rows=[2],
        calls=calls,
    )
    number = tables.filled(known, sent)

    def chosen(start: float = -1, end: float = 9, where: dict[str, str] | None = None, **options: Any) -> list[int]:
        conditions = parse_where([f"{name}={value}" for name, value in (where or {}).items()])
        window = RecordedWindow(KEY[0], AT + timedelta(seconds=start), AT + timedelta(seconds=end), *conditions)
        blocks = tables.read(known, [number], window=window, **options)
        return [value for block in blocks for value in block.columns["x"].tolist()]

    assert chosen() == [0, 1, 3]
    assert chosen(answered=False) == [0, 1, 2, 3]
    assert chosen(where={"tag.a": "1"}) == [0, 1]
    assert chosen(where={"tag.a": "1", "tag.b": "x"}) == [1]
    assert chosen(where={"tag.a": "2"}) == []
    assert chosen(where={"label": "yes"}) == [1, 3]
    tables.execute("update samples set caller = 'shop' where at < (select max(at) from samples)")
    tables.execute("update predictions set process = 'engine-1' where at > (select min(at) from predictions)")
    # What none may have; a sample without a tag, a caller or a process is none that has it.
    assert chosen(where={"tag.a!": "1"}) == [3] and chosen(where={"tag.b!": "x"}) == [0, 3]
    assert chosen(where={"tag.a!": "1"}, answered=False) == [2, 3] and chosen(where={"label!": "yes"}) == [0]
    assert chosen(where={"caller!": "shop"}) == [3] and chosen(where={"process!": "engine-1"}) == [0]
    assert chosen(where={"version!": str(KEY[1])}) == [] and chosen(where={"version!": "77"}) == [0, 1, 3]
    assert chosen(where={"caller": "shop"}) == [0, 1] and chosen(where={"process": "engine-1"}) == [1, 3]
    assert chosen(where={"version": str(KEY[1])}) == [0, 1, 3] and chosen(where={"version": "77"}) == []
    assert chosen(0, 1) == [0] and chosen(0.001, 3) == [1] and chosen(0.0005, 3.0005) == [1, 3]
    assert chosen(choice=RowChoice(issue=1)) == []
    assert tables.read(known, [number], window=RecordedWindow("other", WINDOW.start, WINDOW.end)) == []


def test_outliers_and_issues_are_marked_to_be_left_out_whichever_version_found_them_strange(tables: Tables) -> None:
    known = signature(TensorSpec("x", "int32", ()))
    ids = b"".join(sample_ids(1, NOW + second) for second in range(4))
    number = tables.filled(known, record(np.arange(4, dtype=np.int32), sample_ids=ids))
    for row, version, issue in ((0, number, 5), (1, 999, None), (3, 999, 6)):
        tables.execute(
            "insert into outliers (at, sample_id, version_id, p_value, issue_id) "
            "select at, id, $2, 0.001, $3 from samples where id = $1::uuid",
            *(ids[16 * row : 16 * row + 16].hex(), version, issue),
        )

    def unwanted(**choice: Any) -> list[str]:
        return [why for block in tables.read(known, [number], choice=RowChoice(**choice)) for why in block.unwanted]

    assert unwanted() == [""] * 4
    assert unwanted(without_outliers=True) == ["outliers", "outliers", "", "outliers"]
    of_issue = "of an issue that is left out"
    assert unwanted(without_issues=(5,)) == [of_issue, "", "", ""]
    assert unwanted(without_issues=(5, 6), without_outliers=True) == [of_issue, "outliers", "", of_issue]
    (block,) = tables.read(known, [number])
    assert [answer and answer.issue for answer in block.answers] == [5, None, None, None]
