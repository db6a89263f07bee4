"""Every value of every dtype, from a journal's record through binary COPY into Postgres and back."""

from __future__ import annotations

import base64
import json
import math
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hoverboard.contract.signature import NUMERIC_DTYPES, Array, Signature, TensorSpec
from hoverboard.database.statements import statements
from hoverboard.engine.sample_ids import sample_ids
from hoverboard.journal.records import (
    BatchRecord,
    CallPart,
    DeploymentRecord,
    GapEntry,
    GapRecord,
    LabelRecord,
    RejectionRecord,
    decode,
    encode,
)
from hoverboard.recorder import insert
from hoverboard.recorder.gaps import gaps_of, insert_gaps
from hoverboard.recorder.rows.encode import (
    Copy,
    encode_batches,
    encode_rejections,
)
from hoverboard.recorder.rows.layout import Unencodable
from hoverboard.recorder.rows.plain import DEPLOYMENT_COLUMNS, deployment_rows, label_columns
from hoverboard.recorder.rows.tensors import unpack
from hoverboard.recorder.rows.text import json_values
from tests.postgres import Server
from tests.records import KEY, NOW, VERSION_ID, record, signature, texts, versions

HALVES = np.arange(0, 2**16, 17, dtype=np.uint16).view(np.float16)
SPECIAL = (
    0.0,
    -0.0,
    0.1,
    -0.1,
    1e-45,
    1.1754942e-38,
    3.4028235e38,
    -3.4028235e38,
    16777216.0,
    math.inf,
    -math.inf,
    math.nan,
)


@pytest.fixture(scope="module")
def shared_database(postgres: Server, migrated_template: str) -> Iterator[str]:
    with postgres.database(migrated_template) as url:
        yield url


@pytest.fixture
async def connection(shared_database: str) -> AsyncIterator[Any]:
    """In a transaction that is rolled back, so that all tests can share a database."""
    connected = await asyncpg.connect(shared_database, server_settings={"search_path": "hoverboard, public"})
    try:
        await connected.execute("begin")
        yield connected
    finally:
        await connected.close()


async def copy(connection: Any, copies: Sequence[Copy]) -> None:
    for each in copies:
        said = await connection.copy_to_table(
            each.table, source=each.stream(), columns=each.columns, format="binary", timeout=60
        )
        assert said == f"COPY {each.rows}"


async def store(connection: Any, known: Signature, *records: BatchRecord) -> None:
    """As the recorder does it: what comes from the journal, many batches at once."""
    await copy(connection, encode_batches([decoded(each) for each in records], versions(known), "engine-0"))


def decoded(given: BatchRecord) -> BatchRecord:
    found = decode(encode(given))
    assert isinstance(found, BatchRecord)
    return found


async def samples(connection: Any) -> list[Any]:
    rows: list[Any] = await connection.fetch("select *, inputs::text as inputs_text from samples order by id")
    return rows


def same(found: Any, expected: Array) -> None:
    """Equal to the last bit, any NaN for a NaN."""
    array = np.array(found, expected.dtype).reshape(expected.shape)
    np.testing.assert_array_equal(array, expected)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(array[numbers]), np.signbit(expected[numbers]))


def random_values(dtype: str, count: int) -> Array:
    """Every bit pattern is as likely as any other."""
    numbers = np.random.default_rng(17)
    if dtype == "bool":
        return numbers.random(count) < 0.5
    return np.frombuffer(numbers.bytes(count * np.dtype(dtype).itemsize), dtype)


def ordered_ids(rows: int) -> bytes:
    """Sample ids in the order of their rows."""
    ids = np.tile(np.frombuffer(sample_ids(1, NOW), np.uint8), (rows, 1))
    ids[:, 9:13] = np.arange(rows, dtype=">u4").view(np.uint8).reshape(rows, 4)
    return ids.tobytes()


# --- scalars ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "cast"), [("float16", "real"), ("float32", "real"), ("float64", "float8")])
async def test_a_float_scalar_casts_back_to_the_very_same_float(connection: Any, dtype: str, cast: str) -> None:
    values = HALVES
    if dtype != "float16":
        values = np.concatenate([np.array(SPECIAL, dtype), random_values(dtype, 4000)])
    known = signature(TensorSpec("x", dtype, (), finite=False))
    await store(connection, known, record(values, sample_ids=ordered_ids(len(values))))
    found = await connection.fetch(f"select (inputs ->> 'x')::{cast} as x from samples order by id")
    same([row["x"] for row in found], values)


async def test_what_json_has_no_number_for_is_a_string(connection: Any) -> None:
    values = np.array([math.nan, math.inf, -math.inf, -0.0, 0.0, 1.5], np.float32)
    known = signature(TensorSpec("x", "float32", (1,), finite=False))
    await store(connection, known, record(values[:, None], sample_ids=ordered_ids(6)))
    found = [json.loads(row["inputs"])["x"] for row in await samples(connection)]
    assert found == ["NaN", "Infinity", "-Infinity", "-0", 0, 1.5]


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
async def test_an_integer_is_exact_whatever_its_size(connection: Any, dtype: str) -> None:
    info = np.iinfo(dtype)
    values = np.concatenate([np.array([0, 1, info.min, info.max, info.max - 1], dtype), random_values(dtype, 500)])
    known = signature(TensorSpec("n", dtype, ()))
    await store(connection, known, record(values, sample_ids=ordered_ids(len(values))))
    found = await connection.fetch("select (inputs -> 'n')::numeric as n from samples order by id")
    assert [int(row["n"]) for row in found] == values.tolist()


async def test_scalars_and_texts_stand_together_by_name(connection: Any) -> None:
    known = signature(
        TensorSpec("on", "bool", ()),
        TensorSpec('size "in" \\ cm', "float64", (1,)),
        TensorSpec("größe\x00", "int64", ()),
        TensorSpec("note", "string", ()),
        TensorSpec("words", "string", (2,)),
    )
    given_ = record(
        np.array([True, False]),
        np.array([[0.1], [2.0]]),
        np.array([2**63 - 1, -(2**63)]),
        texts(b"caf\xc3\xa9", b""),
        texts([b"a", b"b"], [b"c", b"d"]),
        sample_ids=ordered_ids(2),
    )
    await store(connection, known, given_)
    first, second = [json.loads(row["inputs"]) for row in await samples(connection)]
    assert first == {
        "on": True,
        'size "in" \\ cm': 0.1,
        "größe\ufffd": 2**63 - 1,
        "note": "café",
        "words": ["a", "b"],
    }
    assert second["on"] is False and second["note"] == "" and second["größe\ufffd"] == -(2**63)


# --- text -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", ""),
        (
            'Ωmega 🛹 \u2028\u2029 \x7f \x01 " \\ / \ufeff\ufffe'.encode(),
            'Ωmega 🛹 \u2028\u2029 \x7f \x01 " \\ / \ufeff\ufffe',
        ),
        (b"a\0b", {"b64": "YQBi"}),
        (b"\xff\xfe", {"b64": "//4="}),
        (b"\xed\xa0\x80", {"b64": "7aCA"}),  # half of a surrogate pair
        (b"\\u0000", "\\u0000"),
        (b"x" * 3_000_000, "x" * 3_000_000),
    ],
    ids=["empty", "unicode", "nul", "not utf-8", "surrogate", "escape", "large"],
)
async def test_text_survives(connection: Any, data: bytes, expected: Any) -> None:
    await store(connection, signature(TensorSpec("text", "string", ())), record(texts(data, b"neighbour")))
    found = [json.loads(row["inputs"])["text"] for row in await samples(connection)]
    assert sorted(map(str, found)) == sorted(map(str, [expected, "neighbour"]))


@settings(max_examples=300)
@given(st.lists(st.one_of(st.binary(max_size=20), st.text(max_size=20).map(str.encode)), min_size=1, max_size=5))
def test_any_bytes_become_json_that_says_them_again(values: list[bytes]) -> None:
    for data, text in zip(values, json_values(texts(*values)).to_pylist(), strict=True):
        assert "\\u0000" not in text.replace("\\\\", "")
        value = json.loads(text)
        assert (value.encode() if isinstance(value, str) else base64.b64decode(value["b64"])) == data


# --- vectors and tensors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bool", "int8", "int16", "uint8", "uint16", "float16", "float32"])
async def test_a_vector_that_float32_holds_is_a_real_array(connection: Any, dtype: str) -> None:
    values = random_values(dtype, 3 * 500).reshape(3, 500)
    known = signature(TensorSpec("v", dtype, (500,), finite=False))
    await store(connection, known, record(values, sample_ids=ordered_ids(3)))
    for row, expected in zip(await samples(connection), values, strict=True):
        assert row["inputs"] is None and row["tensors"] is None
        same(row["vector"], expected.astype(np.float32))


@pytest.mark.parametrize("dtype", NUMERIC_DTYPES)
@pytest.mark.parametrize("shape", [(3, 4), (2, 0, 3), (1, 1)])
async def test_a_tensor_of_any_dtype_is_exact(connection: Any, dtype: str, shape: tuple[int, ...]) -> None:
    values = random_values(dtype, 2 * math.prod(shape)).reshape(2, *shape)
    known = signature(TensorSpec("t", dtype, shape, finite=False))
    await store(connection, known, record(values, sample_ids=ordered_ids(2)))
    for row, expected in zip(await samples(connection), values, strict=True):
        assert row["vector"] is None and row["inputs"] is None
        found = unpack(row["tensors"])
        assert list(found) == ["t"] and found["t"].dtype == dtype and found["t"].shape == shape
        assert found["t"].tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint32", "uint64", "float64"])
async def test_a_vector_that_float32_would_round_is_a_tensor(connection: Any, dtype: str) -> None:
    values = random_values(dtype, 2 * 5).reshape(2, 5)
    known = signature(TensorSpec("v", dtype, (5,), finite=False))
    await store(connection, known, record(values, sample_ids=ordered_ids(2)))
    for row, expected in zip(await samples(connection), values, strict=True):
        assert row["vector"] is None
        assert unpack(row["tensors"])["v"].tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("shape", "length", "is_vector"),
    [
        (0, 0, True),
        (4096, 4096, True),
        (4097, 4097, False),
        (None, 0, True),
        (None, 1, True),
        (None, 4096, True),
        (None, 4097, False),
    ],
)
async def test_a_vector_is_at_most_4096_long(connection: Any, shape: int | None, length: int, is_vector: bool) -> None:
    values = random_values("float32", 2 * length).reshape(2, length)
    known = signature(TensorSpec("v", "float32", (shape,), finite=False))
    await store(connection, known, record(values, sample_ids=ordered_ids(2)))
    for row, expected in zip(await samples(connection), values, strict=True):
        assert (row["vector"] is not None, row["tensors"] is None) == (is_vector, is_vector)
        same(row["vector"] if is_vector else unpack(row["tensors"])["v"], expected)


async def test_batches_of_many_lengths_go_in_together(connection: Any) -> None:
    """Also where the second of two variable vectors, which is a tensor, differs in length."""
    known = signature(TensorSpec("first", "float32", (None,)), TensorSpec("second", "float32", (None,)))
    batches = []
    expected: dict[uuid.UUID, list[Array]] = {}
    for length in (3, 0, 5000, 7, 3):
        ids = sample_ids(2, NOW)
        columns = [
            random_values("uint8", 2 * size).astype(np.float32).reshape(2, size) for size in (length, length + 1)
        ]
        batches.append(record(*columns, sample_ids=ids))
        expected |= {
            uuid.UUID(bytes=ids[16 * row : 16 * row + 16]): [column[row] for column in columns] for row in (0, 1)
        }
    await store(connection, known, *batches)
    found = await samples(connection)
    assert len(found) == 10
    for row in found:
        tensors = unpack(row["tensors"])
        first, second = expected[uuid.UUID(str(row["id"]))]
        same(tensors["first"] if len(first) > 4096 else row["vector"], first)
        same(tensors["second"], second)
        assert len(tensors) == 1 + (len(first) > 4096)


async def test_only_the_first_fitting_vector_is_one_and_the_rest_are_tensors_together(connection: Any) -> None:
    known = signature(
        TensorSpec("wide", "float64", (2,)),
        TensorSpec("image", "uint8", (2, 2)),
        TensorSpec("first", "int8", (3,)),
        TensorSpec("second", "float32", (3,)),
        TensorSpec("size", "float32", ()),
    )
    columns = [
        np.array([[0.1, 0.2]]),
        np.array([[[1, 2], [3, 255]]], np.uint8),
        np.array([[-1, 0, 127]], np.int8),
        np.array([[1.5, 2.5, 3.5]], np.float32),
        np.array([9.0], np.float32),
    ]
    await store(connection, known, record(*columns))
    (row,) = await samples(connection)
    assert row["vector"] == [-1.0, 0.0, 127.0]
    assert json.loads(row["inputs"]) == {"size": 9}
    found = unpack(row["tensors"])
    assert list(found) == ["wide", "image", "second"]
    for name, place in (("wide", 0), ("image", 1), ("second", 3)):
        same(found[name], columns[place][0])


async def test_a_large_tensor_survives(connection: Any) -> None:
    image = random_values("uint8", 2048 * 2048 * 3).reshape(1, 2048, 2048, 3)
    await store(connection, signature(TensorSpec("image", "uint8", (None, None, 3))), record(image))
    (row,) = await samples(connection)
    assert unpack(row["tensors"])["image"].tobytes() == image.tobytes()


# --- outputs --------------------------------------------------------------------------------------------------------------


async def test_the_first_output_is_a_real_array_and_the_others_are_tensors(connection: Any) -> None:
    outputs = (
        TensorSpec("scores", "float32", (3,)),
        TensorSpec("box", "float32", (4,)),
        TensorSpec("words", "string", (2,)),
        TensorSpec("rank", "int64", ()),
    )
    columns = [
        np.array([[0.1, math.inf, -0.0]], np.float32),
        np.array([[1, 2, 3, 4]], np.float32),
        texts([b"\0\xff", b""]),
        np.array([2**62 + 1]),
    ]
    known = signature(TensorSpec("x", "float32", ()), outputs=outputs)
    await store(connection, known, record(np.ones(1, np.float32), outputs=columns))
    row = await connection.fetchrow("select * from predictions")
    same(row["outputs"], columns[0][0])
    found = unpack(row["output_tensors"])
    assert list(found) == ["box", "words", "rank"]
    same(found["box"], columns[1][0])
    assert found["words"].tolist() == [b"\0\xff", b""]
    assert found["rank"].shape == () and int(found["rank"]) == 2**62 + 1


@pytest.mark.parametrize(
    ("dtype", "shape"), [("float64", (3,)), ("float32", (2, 3)), ("float32", ()), ("float32", (5000,))]
)
async def test_a_first_output_that_does_not_fit_is_a_tensor(
    connection: Any, dtype: str, shape: tuple[int, ...]
) -> None:
    values = random_values(dtype, 2 * math.prod(shape)).reshape(2, *shape)
    known = signature(TensorSpec("x", "float32", ()), outputs=[TensorSpec("y", dtype, shape)])
    await store(connection, known, record(np.ones(2, np.float32), outputs=[values], sample_ids=ordered_ids(2)))
    rows = await connection.fetch("select * from predictions order by sample_id")
    for row, expected in zip(rows, values, strict=True):
        assert row["outputs"] is None
        assert unpack(row["output_tensors"])["y"].tobytes() == expected.tobytes()


async def test_a_classification_has_label_and_confidence(connection: Any) -> None:
    known = signature(
        TensorSpec("x", "float32", ()),
        outputs=[TensorSpec("p", "float32", (3,))],
        task="classification",
        labels=("rot", "nul\x00", "グリーン"),
    )
    given_ = record(
        np.ones(3, np.float32),
        outputs=[np.eye(3, dtype=np.float32)],
        label_index=np.array([2, 1, 0], np.int32).tobytes(),
        confidence=np.array([0.1, 1 / 3, 1], np.float32).tobytes(),
        p_value=np.array([0.01, 0.5, 1], np.float32).tobytes(),
        outlier=np.array([True, False, False]).tobytes(),
        sample_ids=ordered_ids(3),
    )
    await store(connection, known, given_)
    rows = await connection.fetch("select * from predictions order by sample_id")
    assert [row["label"] for row in rows] == ["グリーン", "nul\ufffd", "rot"]
    same([row["confidence"] for row in rows], np.array([0.1, 1 / 3, 1], np.float32))
    same([row["p_value"] for row in rows], np.array([0.01, 0.5, 1], np.float32))
    assert all(row["value"] is None for row in rows)
    (outlier,) = await connection.fetch("select * from outliers")
    assert outlier["sample_id"] == rows[0]["sample_id"] and outlier["at"] == rows[0]["at"]
    assert outlier["version_id"] == VERSION_ID and outlier["p_value"] == rows[0]["p_value"]
    assert outlier["scores"] is None and outlier["detector"] is None


async def test_classes_without_names_go_by_their_number(connection: Any) -> None:
    known = signature(TensorSpec("x", "float32", ()), task="classification")
    given_ = record(np.ones(1, np.float32), label_index=np.array([1], np.int32).tobytes())
    await store(connection, known, given_)
    assert await connection.fetchval("select label from predictions") == "1"


async def test_a_regression_has_the_exact_value(connection: Any) -> None:
    values = np.array([0.1, -0.0, 3.4028235e38, 1e-45], np.float32)
    known = signature(TensorSpec("x", "float32", ()), outputs=[TensorSpec("y", "float32", (1,))], task="regression")
    given_ = record(
        np.ones(4, np.float32), outputs=[values[:, None]], value=values.tobytes(), sample_ids=ordered_ids(4)
    )
    await store(connection, known, given_)
    rows = await connection.fetch("select value, outputs from predictions order by sample_id")
    same([row["value"] for row in rows], values.astype(np.float64))
    same([row["outputs"] for row in rows], values[:, None])


# --- what else is known of a row ----------------------------------------------------------------------------------------------


async def test_times_batch_and_call_come_with_every_row(connection: Any) -> None:
    calls = [
        CallPart(
            2, "stable", "first\x00", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b'{"customer":"17"}'
        ),
        CallPart(1, None, "second", None, None),
    ]
    ids = ordered_ids(3)
    given_ = record(
        np.arange(6, dtype=np.float32).reshape(3, 2),
        calls=calls,
        sample_ids=ids,
        executed=5,
        queue_us=np.array([0, 77, 2**32 - 1], np.uint32).tobytes(),
    )
    await store(connection, signature(TensorSpec("v", "float32", (2,))), given_)
    rows = await samples(connection)
    assert [row["id"].bytes for row in rows] == [ids[:16], ids[16:32], ids[32:]]
    assert {row["at"] for row in rows} == {datetime.fromtimestamp(NOW, UTC)}
    assert await connection.fetchval("select bool_and(at = sample_at(id)) from samples")
    assert [row["request_id"] for row in rows] == ["first\ufffd", "first\ufffd", "second"]
    assert [row["traceparent"] for row in rows] == [calls[0].traceparent, calls[0].traceparent, None]
    assert [row["tags"] and json.loads(row["tags"]) for row in rows] == [{"customer": "17"}, {"customer": "17"}, None]
    assert {(row["model"], row["incl_prob"], row["why"]) for row in rows} == {("shapes", 1.0, "all")}
    predictions = await connection.fetch("select * from predictions order by sample_id")
    assert [row["role"] for row in predictions] == ["stable", "stable", None]
    assert [row["queue_us"] for row in predictions] == [0, 77, 2**31 - 1]
    assert {row["at"] for row in predictions} == {rows[0]["at"]}
    started = datetime.fromtimestamp(NOW, UTC) + timedelta(microseconds=123)
    assert {
        (p["version_id"], p["predicted_at"], p["batch_id"].bytes, p["batch_size"], p["bucket"], p["infer_us"])
        for p in predictions
    } == {(VERSION_ID, started, ids[:16], 5, 8, 700)}


async def test_tags_survive_but_for_nul(connection: Any) -> None:
    tags = {"nul\x00": "a\x00b", "quote": '"\\u0000', "emoji": "🛹", "empty": ""}
    given_ = record(np.ones(1, np.float32), calls=[CallPart(1, None, "r", None, json.dumps(tags).encode())])
    await store(connection, signature(TensorSpec("x", "float32", ())), given_)
    (row,) = await samples(connection)
    expected = {key.replace("\0", "\ufffd"): value.replace("\0", "\ufffd") for key, value in tags.items()}
    assert json.loads(row["tags"]) == expected


async def test_a_sampled_row_says_how_likely_it_was_and_why_it_was_kept(connection: Any) -> None:
    given_ = record(
        np.ones(3, np.float32),
        policy="sampled",
        executed=50,
        incl_prob=np.array([0.1, 1, 1], np.float32).tobytes(),
        why=np.array([1, 2, 4], np.uint8).tobytes(),
        sample_ids=ordered_ids(3),
    )
    await store(connection, signature(TensorSpec("x", "float32", ())), given_)
    rows = await samples(connection)
    same([row["incl_prob"] for row in rows], np.array([0.1, 1, 1], np.float32))
    assert [row["why"] for row in rows] == ["sampled", "outlier", "low_margin"]


async def test_a_failed_row_has_a_sample_and_no_prediction(connection: Any) -> None:
    known = signature(TensorSpec("x", "float32", ()))
    failing = record(np.arange(3, dtype=np.float32), failed_rows=[1], sample_ids=ordered_ids(3))
    all_failed = record(np.arange(2, dtype=np.float32), failed_rows=[0, 1])
    await store(connection, known, failing, record(np.ones(1, np.float32)), all_failed)
    assert await connection.fetchval("select count(*) from samples") == 6
    answered = await connection.fetch("select sample_id from predictions")
    assert len(answered) == 3
    assert uuid.UUID(bytes=failing.sample_ids[16:32]) not in {row["sample_id"] for row in answered}


async def test_redacted_inputs_are_null_or_left_out_and_elements_are_nan_or_null(connection: Any) -> None:
    known = signature(
        TensorSpec("name", "string", ()),
        TensorSpec("age", "int64", ()),
        TensorSpec("face", "uint8", (2, 2)),
        TensorSpec("features", "float32", (2,)),
        TensorSpec("more", "float32", (2,)),
        TensorSpec("words", "string", (2,)),
    )
    given_ = record(
        np.array([[math.nan, 2]], np.float32),
        np.array([[3, 4]], np.float32),
        texts([None, b"kept"]),
        redacted=["name", "age", "face"],
    )
    hidden = record(np.array([[3, 4]], np.float32), texts([b"a", b"b"]), redacted=["name", "age", "face", "features"])
    await store(connection, known, given_, hidden)
    rows = {row["vector"] is None: row for row in await samples(connection)}
    assert json.loads(rows[False]["inputs"]) == {"name": None, "age": None, "words": [None, "kept"]}
    same(rows[False]["vector"], np.array([math.nan, 2], np.float32))
    for row in rows.values():
        tensors = unpack(row["tensors"])
        assert list(tensors) == ["more"]
        same(tensors["more"], np.array([3, 4], np.float32))


async def test_where_every_input_is_redacted_the_sample_is_still_there(connection: Any) -> None:
    known = signature(TensorSpec("face", "uint8", (2, 2)))
    await store(connection, known, record(outputs=[np.zeros((2, 2), np.float32)], redacted=["face"]))
    assert [(row["inputs"], row["vector"], row["tensors"]) for row in await samples(connection)] == [(None,) * 3] * 2


async def test_under_the_policy_hashed_only_the_hash_is_there(connection: Any) -> None:
    digests = random_values("uint8", 64).reshape(2, 32)
    known = signature(TensorSpec("v", "float32", (2,)), TensorSpec("text", "string", ()))
    await store(connection, known, record(digests, policy="hashed", sample_ids=ordered_ids(2)))
    for row, digest in zip(await samples(connection), digests, strict=True):
        assert json.loads(row["inputs"]) == {"sha256": digest.tobytes().hex()}
        assert row["vector"] is None and row["tensors"] is None
    assert await connection.fetchval("select count(outputs) from predictions") == 2


async def test_a_batch_of_which_nothing_was_kept_has_no_rows(connection: Any) -> None:
    nothing = record(policy="none", outputs=[np.zeros((0, 2), np.float32)], executed=4, columns=[], calls=[])
    assert encode_batches([nothing], {}, "engine-0") == []


async def test_thousands_of_batches_of_several_versions_go_in_together(connection: Any) -> None:
    known = signature(TensorSpec("v", "float32", (3,)))
    other = signature(TensorSpec("x", "int64", ()))
    values = random_values("uint16", 3000 * 3).astype(np.float32).reshape(3000, 3)
    ids = ordered_ids(3000)
    batches = [
        record(values[start : start + rows], sample_ids=ids[16 * start : 16 * (start + rows)])
        for rows, start in [(1, at) for at in range(1000)] + [(20, at) for at in range(1000, 3000, 20)]
    ]
    others = [record(np.array([i])) for i in range(500)]
    for at, batch in enumerate(others):
        others[at] = BatchRecord(*("plain", 1, "cd"), *[getattr(batch, name) for name in batch.__struct_fields__[3:]])
    mixed = [each for pair in zip(batches, others, strict=False) for each in pair] + batches[len(others) :]
    found = encode_batches(mixed, versions(known) | {("plain", 1, "cd"): versions(other)[KEY]}, "engine-0")
    assert [(each.table, each.rows) for each in found] == [("samples", 3500), ("predictions", 3500)]
    await copy(connection, found)
    rows = await connection.fetch("select vector from samples where model = 'shapes' order by id")
    same([row["vector"] for row in rows], values)
    numbers = await connection.fetch("select (inputs ->> 'x')::int as x from samples where model = 'plain'")
    assert sorted(row["x"] for row in numbers) == list(range(500))
    assert await connection.fetchval("select count(distinct sample_id) from predictions") == 3500


async def test_what_cannot_be_encoded_names_the_batch_and_no_value() -> None:
    known = signature(TensorSpec("v", "float32", (3,)))
    broken = record(np.ones((2, 3), np.float32), queue_us=b"1234")
    with pytest.raises(
        Unencodable, match=rf"batch {broken.batch_id.hex()} of shapes version 2: queue_us: 1 for 2 rows"
    ):
        encode_batches([broken], versions(known), "engine-0")
    with pytest.raises(Unencodable, match="1 columns for 2 inputs"):
        encode_batches(
            [record(np.ones((2, 3)))], versions(signature(*known.inputs, TensorSpec("w", "bool", ()))), "engine-0"
        )
    with pytest.raises(Unencodable, match="this version is not known"):
        encode_batches([broken], {}, "engine-0")


# --- the other tables -------------------------------------------------------------------------------------------------------


async def test_rejections_survive(connection: Any) -> None:
    full = RejectionRecord(
        int(NOW * 1e6) + 1,
        "r\x00",
        "00-ab",
        "predict",
        "digits",
        "7",
        -32602,
        "invalid_params",
        "/a/0",
        "x\x00",
        b'{"a":"\\u0000"}',
    )
    bare = RejectionRecord(1, "", None, "", None, None, -32005, "overloaded", None, None, None)
    await copy(connection, encode_rejections([full, bare]))
    assert encode_rejections([]) == []
    last, first = await connection.fetch("select * from rejections order by at desc")
    assert last["at"] == datetime.fromtimestamp(NOW, UTC) + timedelta(microseconds=1)
    assert (last["request_id"], last["excerpt"], json.loads(last["tags"])) == ("r\ufffd", "x\ufffd", {"a": "\ufffd"})
    assert (last["code"], last["kind"], last["pointer"], last["version"]) == (-32602, "invalid_params", "/a/0", "7")
    assert [first[name] for name in ("traceparent", "model", "version", "pointer", "excerpt", "tags")] == [None] * 6


async def test_labels_deployments_and_gaps_are_rows_in_the_order_of_their_columns(connection: Any) -> None:
    ids = sample_ids(2, NOW)
    labels = label_columns(
        [
            LabelRecord(5, ids[:16], "kat\x00ze", None, "support", None, "r"),
            LabelRecord(6, ids[16:], None, 0.1, "sensor", "ann", "r"),
        ]
    )
    version_id = await connection.fetchval(
        "insert into model_versions (name, version, weights_sha256, manifest, first_served_at) "
        "values ($1, $2, $3, '{}', now()) returning id",
        *KEY,
    )
    known = {KEY: type(versions(signature())[KEY])(version_id, KEY, signature())}
    deployments = deployment_rows(
        [
            DeploymentRecord(7, KEY[0], "stable", KEY[1], KEY[2], 1.0, "first", "disk"),
            DeploymentRecord(8, KEY[0], "stable", None, "", 0.0, "gone", "disk"),
        ],
        known,
        "engine-0",
    )
    with pytest.raises(Unencodable, match="shapes version 9"):
        deployment_rows([DeploymentRecord(7, "shapes", "stable", 9, "", 1.0, "", "disk")], known, "engine-0")
    journal, before = uuid.uuid4(), datetime.now(UTC)
    entries = [GapEntry("shapes", 2, "budget", 10, 12, 1, 3, 4), GapEntry(None, None, "disk full", 1, 0, 0, 3, 4)]
    await insert_gaps(connection, journal, "engine-0", gaps_of([GapRecord(1, entries)]))
    await connection.execute(statements(insert.__file__)["insert_labels"], *labels)
    await connection.copy_records_to_table("deployments", columns=DEPLOYMENT_COLUMNS, records=deployments)
    found = await connection.fetch("select * from labels order by labelled_at")
    assert [(row["sample_id"].bytes, row["label"], row["value"], row["source"], row["author"]) for row in found] == [
        (ids[:16], "kat\ufffdze", None, "support", None),
        (ids[16:], None, 0.1, "sensor", "ann"),
    ]
    found = await connection.fetch("select * from deployments order by at")
    assert [(row["version_id"], row["share"], row["process"]) for row in found] == [
        (version_id, 1.0, "engine-0"),
        (None, 0.0, "engine-0"),
    ]
    found = await connection.fetch("select * from gaps order by records desc")
    assert [(row["model"], row["reason"], row["records"], row["executed"], row["flagged"]) for row in found] == [
        ("shapes", "budget", 10, 12, 1),
        (None, "disk full", 1, 0, 0),
    ]
    assert {(row["journal"], row["first_at"].microsecond) for row in found} == {(journal, 3)}
    assert all(before <= row["at"] <= datetime.now(UTC) for row in found)
