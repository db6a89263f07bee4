"""Every statement of docs/sql.md and docs/sql-whole.md, asked of a database in which a small story is known."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from hoverboard.database.connect import connected

PAGES = [Path(__file__).parents[2] / "docs" / page for page in ("sql.md", "sql-whole.md")]
JOURNAL = UUID(int=7)


def march(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 3, day, hour, minute, tzinfo=UTC)


def sample_id(at: datetime, number: int) -> UUID:
    return UUID(int=(int(at.timestamp() * 1000) << 80) | (7 << 76) | (2 << 62) | number)


CHAIR, LAMP, HOVERBOARD, DRONE = ({"text": f"a {word}"} for word in ("chair", "lamp", "hoverboard", "drone"))

# number, time, input, customer, incl_prob, why
SAMPLES = [
    (1, march(3, 9), CHAIR, "17", 0.5, "sampled"),
    (2, march(3, 10), HOVERBOARD, "17", 1.0, "outlier"),
    (3, march(3, 11), {"text": ""}, "17", 1.0, "error"),
    (4, march(3, 12), LAMP, "18", 0.5, "sampled"),
    (5, march(4, 12), LAMP, "18", 0.5, "sampled"),
    (6, march(4, 13), HOVERBOARD, "18", 1.0, "outlier"),
    (7, march(4, 14), CHAIR, "17", 0.5, "sampled"),
    (8, march(2, 12), LAMP, "17", 0.5, "sampled"),
    (10, march(3, 15), DRONE, None, 1.0, "all"),
    (11, march(3, 16), CHAIR, "20", 0.5, "sampled"),
]
# number, version, role, label, confidence, p-value, batch size, bucket, queue_us, infer_us
PREDICTIONS = [
    (1, 1, "stable", "Furniture", 0.98, 0.5, 1, 1, 100, 1000),
    (2, 1, "stable", "Vehicles", 0.91, 0.002, 1, 1, 200, 9000),
    (4, 1, "stable", "Furniture", 0.6, 0.4, 3, 4, 50_000, 2000),
    (5, 2, "stable", "Lighting", 0.9, 0.6, 1, 1, 10, 1000),
    (6, 2, "stable", "Toys", 0.8, 0.004, 1, 1, 10, 1000),
    (7, 2, "stable", "Furniture", 0.99, 0.7, 1, 1, 10, 1000),
    (8, 1, "stable", "Toys", 0.4, 0.2, 1, 1, 10, 1000),
    (10, 2, None, "Toys", 0.7, 0.1, 1, 1, 10, 1000),
    (11, 1, "stable", "Furniture", 0.97, 0.5, 1, 1, 50, 1000),
]
TIMES = {number: at for number, at, *_ in SAMPLES}
UNKNOWN, EXPIRED, FOREIGN = sample_id(march(3, 9), 99), sample_id(march(3, 9) - timedelta(60), 98), UUID(int=4 << 76)

# sample, time, label, source
LABELS = [
    (sample_id(TIMES[1], 1), march(5, 9), "Furniture", "support"),
    (sample_id(TIMES[2], 2), march(4, 9), "Vehicles", "support"),
    (sample_id(TIMES[2], 2), march(5, 9), "Toys", "support"),
    (sample_id(TIMES[4], 4), march(6, 9), "Lighting", "support"),
    (sample_id(TIMES[6], 6), march(6, 9), "Toys", "support"),
    (UNKNOWN, march(5, 9), "Toys", "import"),
    (EXPIRED, march(5, 9), "Toys", "import"),
    (EXPIRED, march(5, 10), "Toys", "import"),
    (FOREIGN, march(5, 9), "Toys", "import"),
]
# time, method, model, code, kind, pointer, excerpt, customer
REJECTIONS = [
    (march(3, 8), "products", -32602, "invalid_params", "/instances/0", "17", "18"),
    (march(3, 9), "products", -32602, "invalid_params", "/instances/0", "17", "18"),
    (march(3, 9), "digits", -32005, "overloaded", None, None, None),
    (march(4, 9), "products", -32602, "invalid_params", "/instances/0", "17", "18"),
]
# time, model, version, reason, records, executed, flagged, first, last
GAPS = [
    (march(3, 13), "products", 1, "budget", 60, 0, 1, march(3, 12), march(3, 12, 30)),
    (march(3, 13), "products", 1, "budget", 40, 0, 0, march(3, 12, 30), march(3, 12, 50)),
    (march(3, 14), None, None, "damaged", None, None, None, None, None),
    (march(7, 9), "products", 1, "budget", 5, 0, 0, march(6, 9), march(6, 10)),
]


async def tell(connection: Any) -> None:
    """Insert the story."""
    await connection.fetchval("select make_partitions('2026-03-01', '2026-03-07')")
    await connection.executemany(
        "insert into model_versions (name, version, weights_sha256, manifest, first_served_at)"
        " values ($1, $2, $3, '{}', $4)",
        [
            ("products", 1, "a" * 64, march(1, 0)),
            ("products", 2, "b" * 64, march(3, 15)),
            ("digits", 1, "c" * 64, march(1, 0)),
        ],
    )
    await connection.executemany(
        "insert into samples (at, id, model, inputs, vector, tags, request_id, incl_prob, why)"
        " values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        [
            (at, sample_id(at, number), "products", json.dumps(text), None, _tags(customer), f"r{number}", share, why)
            for number, at, text, customer, share, why in SAMPLES
        ]
        + [(march(3, 9, 30), sample_id(march(3, 9, 30), 9), "digits", None, [1.0, 2.5], _tags("17"), "r9", 1.0, "all")],
    )
    await connection.executemany(
        "insert into predictions (at, sample_id, version_id, role, predicted_at, label, confidence, p_value, batch_id,"
        " batch_size, bucket, queue_us, infer_us) values ($1, $2, $3, $4, $1, $5, $6, $7, $2, $8, $9, $10, $11)",
        [(TIMES[number], sample_id(TIMES[number], number), *rest) for number, *rest in PREDICTIONS]
        + [(march(3, 9, 30), sample_id(march(3, 9, 30), 9), 3, "stable", "7", 0.9, 0.3, 1, 1, 10, 500)],
    )
    await connection.executemany(
        "insert into outliers (at, sample_id, version_id, p_value) values ($1, $2, $3, $4)",
        [(TIMES[n], sample_id(TIMES[n], n), version, p) for n, version, _, _, _, p, *_ in PREDICTIONS if p <= 0.01],
    )
    await connection.executemany(
        "insert into labels (sample_id, labelled_at, label, source) values ($1, $2, $3, $4)", LABELS
    )
    await connection.executemany(
        "insert into rejections (at, method, model, code, kind, pointer, excerpt, tags)"
        " values ($1, 'predict', $2, $3, $4, $5, $6, $7)",
        [(*rest, _tags(customer)) for *rest, customer in REJECTIONS],
    )
    await connection.executemany(
        "insert into gaps (at, model, version, reason, records, executed, flagged, first_at, last_at, journal, process)"
        f" values ($1, $2, $3, $4, $5, $6, $7, $8, $9, '{JOURNAL}', 'engine-0')",
        GAPS,
    )
    await connection.executemany(
        "insert into deployments (at, model, role, version_id, share, reason, actor, process)"
        " values ($1, 'products', 'stable', $2, 1, $3, $4, $5)",
        [
            (march(1, 0), 1, "the service started", "disk", "engine-0"),
            (march(4, 8), 2, "routed to version 2", "admin", "engine-0"),
            (march(4, 8), 2, "routed to version 2", "admin", "engine-1"),
        ],
    )
    await connection.executemany(
        "insert into recorder_cursor (journal, process, segment, position, seq, records, gap_generation, executed,"
        " recorded, started_at, updated_at, finished_at) values ($1, $2, 0, 0, 0, 0, 0, $3, $4, $5, $5, $6)",
        [
            (JOURNAL, "engine-0", 20, 10, march(4, 8), None),
            (UUID(int=6), "engine-0", 5, 5, march(1, 8), march(4, 8)),
        ],
    )


def _tags(customer: str | None) -> str | None:
    return None if customer is None else json.dumps({"customer": customer})


def blocks() -> dict[str, str]:
    """The statement under each numbered heading of the pages; what is before the first one is `begin`."""
    found = {}
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for part in re.split(r"^##? ", text, flags=re.MULTILINE):
        statements = re.findall(r"^```sql\n(.*?)^```", part, re.MULTILINE | re.DOTALL)
        heading = re.match(r"(\d+)\. ", part)
        if not statements and not heading:
            continue
        assert len(statements) == 1, part.partition("\n")[0]
        found[heading[1] if heading else "begin"] = statements[0]
    return found


def plain(value: Any) -> Any:
    """A value as the expectations write it."""
    if isinstance(value, datetime):
        return f"{value:%m-%d %H:%M}"
    if isinstance(value, str) and value.startswith("{"):
        return json.loads(value)
    return round(float(value), 4) if isinstance(value, Decimal | float) else value


EXPECTED = {
    "1": [
        ("03-03 09:00", "r1", 1, "Furniture", 0.98, CHAIR),
        ("03-03 09:30", "r9", 1, "7", 0.9, None),
        ("03-03 10:00", "r2", 1, "Vehicles", 0.91, HOVERBOARD),
        ("03-03 11:00", "r3", None, None, None, {"text": ""}),
    ],
    "2": [
        (
            "03-03 10:00",
            "products",
            1,
            "stable",
            "Vehicles",
            0.002,
            200,
            9000,
            1,
            truly,
            "support",
            HOVERBOARD,
            {"customer": "17"},
        )
        for truly in ("Vehicles", "Toys")
    ],
    "3": [("Furniture", "Lighting", 1, "a lamp"), ("Vehicles", "Toys", 1, "a hoverboard")],
    "4": [("03-03 10:00", 1, 0.002, "Vehicles", 0.91, HOVERBOARD, None)],
    "5": [(1, 3, 0.4, "Lighting, Toys"), (2, 1, 1.0, None)],
    "6": [
        ("03-03 12:00", "products", 1, 3, 4, 2.0, 50.0, 1.0),
        ("03-03 10:00", "products", 1, 1, 1, 9.0, 0.2, 9.0),
        ("03-03 09:00", "products", 1, 1, 1, 1.0, 0.1, 1.0),
        ("03-03 16:00", "products", 1, 1, 1, 1.0, 0.05, 1.0),
        ("03-03 15:00", "products", 2, 1, 1, 1.0, 0.01, 1.0),
        ("03-03 09:30", "digits", 1, 1, 1, 0.5, 0.01, 1.0),
    ],
    "7": [
        ("invalid_params", -32602, "products", "18", 2, "03-03 09:00", "/instances/0", "17"),
        ("overloaded", -32005, "digits", None, 1, "03-03 09:00", None, None),
    ],
    "8": [
        ("damaged", "engine-0", None, None, None, None, None, 1, None, None),
        ("budget", "engine-0", "products", 1, 100.0, 0.0, 1.0, 0, "03-03 12:00", "03-03 12:50"),
    ],
    "9": [("Furniture", 3, 6.0, 5.0), ("Toys", 1, 1.0, 0.0), ("Vehicles", 1, 1.0, 0.0)],
    "10": [
        ("import", "past retention", 2, "03-05 10:00"),
        ("import", "never recorded", 1, "03-05 09:00"),
        ("import", "not an id of ours", 1, "03-05 09:00"),
    ],
    "11": [
        ("03-04 08:00", "stable", 2, "b" * 12, "admin", "routed to version 2", None),
        ("03-01 00:00", "stable", 1, "a" * 12, "disk", "the service started", "03-04 08:00"),
    ],
}


async def answered(database: str, question: str) -> list[tuple[Any, ...]]:
    """The page's answer, asked as a reader."""
    async with connected(database, application="test", role=None) as owner:
        await tell(owner)
    async with connected(database, application="test", role="reader") as connection:
        await connection.execute("reset search_path; reset timezone")
        await connection.execute(blocks()["begin"])
        return [tuple(map(plain, row)) for row in await connection.fetch(blocks()[question])]


@pytest.mark.parametrize("question", EXPECTED)
async def test_a_question_is_answered_by_what_happened(question: str, database: str) -> None:
    assert await answered(database, question) == EXPECTED[question]


async def test_every_answer_is_counted_but_those_that_no_caller_got(database: str) -> None:
    before = await answered(database, "9")
    async with connected(database, application="test", role=None) as owner:
        # What a second version would have said of sample 2, beside the answer that the caller got.
        await owner.execute(
            "insert into predictions select (jsonb_populate_record(p, jsonb_build_object('version_id', v.id, 'role', 'shadow'))).*"
            " from predictions p join model_versions v on v.name = 'products' and v.version = 2 where p.sample_id = $1",
            sample_id(TIMES[2], 2),
        )
    async with connected(database, application="test", role="reader") as connection:
        await connection.execute(blocks()["begin"])
        rows = await connection.fetch(blocks()["9"])
    assert [tuple(map(plain, row)) for row in rows] == before
    assert ("Toys", 1, 1.0, 0.0) in before, "a caller who named the version"


async def test_recording_that_is_not_done_is_listed_with_how_long_it_is_quiet(database: str) -> None:
    ((process, journal, executed, recorded, quiet_for),) = await answered(database, "12")
    assert (process, journal, executed, recorded) == ("engine-0", JOURNAL, 20, 10)
    assert abs(quiet_for - (datetime.now(UTC) - march(4, 8))) < timedelta(minutes=1)


def test_every_question_of_the_page_is_asked() -> None:
    assert blocks().keys() == {"begin", *EXPECTED, "12"}


MANY = """
select make_partitions('2026-03-01', '2026-03-07');
insert into model_versions (name, version, weights_sha256, manifest, first_served_at)
    values ('products', 1, 'a', '{}', '2026-03-01'), ('products', 2, 'b', '{}', '2026-03-01');
create temp table asked as
    select sample_at(id) as at, id, n
    from (
        select n, (lpad(to_hex(1772496000000 + n * 3000::bigint), 12, '0') || '7000' || lpad(to_hex((8::bigint << 60) + n), 16, '0'))::uuid as id
        from generate_series(1, 50000) n
    ) ids;
insert into samples (at, id, model, inputs, tags, request_id, incl_prob, why)
    select at, id, 'products', jsonb_build_object('text', 'thing ' || n / 2), jsonb_build_object('customer', (n % 50)::text),
        'r' || n, 1, 'all'
    from asked;
insert into predictions (at, sample_id, version_id, role, predicted_at, label, confidence, p_value, batch_id, batch_size,
    bucket, queue_us, infer_us)
    select at, id, 1 + n % 2, 'stable', at, 'class ' || n % 7, 0.5, 0.5, id, 1, 1, n % 1000, n % 5000 from asked;
insert into outliers (at, sample_id, version_id, p_value) select at, id, 1 + n % 2, 0.001 from asked where n % 50 = 0;
insert into labels (sample_id, labelled_at, label, source)
    select id, '2026-03-06', 'class ' || n % 5, 'support' from asked where n % 3 = 0;
insert into rejections (at, method, model, code, kind, tags)
    select at, 'predict', 'products', -32602, 'invalid_params', jsonb_build_object('customer', (n % 50)::text) from asked;
"""
"""Fifty thousand samples in two days, half of them asked of each of two versions."""


@pytest.mark.parametrize("analysed", [False, True], ids=["before statistics", "with statistics"])
async def test_no_question_takes_long_over_fifty_thousand_samples(database: str, *, analysed: bool) -> None:
    async with connected(database, application="test", role=None) as owner:
        await owner.execute(MANY + ("analyze" if analysed else ""))
    async with connected(database, application="test", role="reader") as connection:
        await connection.execute(blocks()["begin"])
        await connection.execute("set statement_timeout to '8s'")
        for question, statement in blocks().items():
            if question != "begin":
                await connection.fetch(statement)


async def test_what_asks_the_view_of_answers_for_a_day_reads_no_other_day(database: str) -> None:
    asked = {number: statement for number, statement in blocks().items() if "from answers" in statement}
    asked["all columns"] = "select * from answers where at >= '2026-03-03' and at < '2026-03-04'"
    asked["by now()"] = "select outlier, true_label, tags from answers where at >= now() - interval '1 day'"
    assert {"3", "4", "9"} <= asked.keys()
    async with connected(database, application="test", role=None) as owner:
        await owner.execute(MANY + "analyze")
    async with connected(database, application="test", role="reader") as connection:
        await connection.execute(blocks()["begin"])
        for question, statement in asked.items():
            plan = await connection.fetch(f"explain (analyze, costs off, timing off) {statement}")
            lines = [row[0] for row in plan if "never executed" not in row[0]]
            read = {match[1] for line in lines if (match := re.search(r"Scan.* on \w+?_(2026_\d\d_\d\d) ", line))}
            expected = {"3": {f"2026_03_0{day}" for day in range(1, 8)}, "by now()": set()}
            assert read <= expected.get(question, {"2026_03_03"}), (question, "\n".join(lines))
            assert read or question == "by now()", question
