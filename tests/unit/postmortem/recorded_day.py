"""A day in a real database, written by the recorder's own code: two versions, five customers, and whatever is planted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from hoverboard.contract.signature import Signature, TensorSpec
from hoverboard.contract.times import micros
from hoverboard.database.connect import Connection
from hoverboard.database.known import KnownVersion, VersionKey
from hoverboard.engine.sample_ids import sample_ids
from hoverboard.journal.columns import pack_column
from hoverboard.journal.records import BatchRecord, CallPart, RejectionRecord
from hoverboard.recorder.rows.encode import encode_batches, encode_rejections
from hoverboard.versions.baseline import Baseline, Feature
from hoverboard.watch.drift_table import insert_baseline

MODEL = "cups"
LABELS = ("small", "large")
SIGNATURE = Signature(
    "classification",
    (TensorSpec("height", "float32", ()), TensorSpec("width", "float32", ()), TensorSpec("note", "string", ())),
    (TensorSpec("scores", "float32", (2,)),),
    labels=LABELS,
)
CUSTOMERS = ("15", "16", "17", "18", "19")
START = datetime(2026, 11, 29, 6, 0, tzinfo=UTC)
ONSET = START + timedelta(hours=8)
END = START + timedelta(hours=12)


@dataclass(slots=True)
class Planted:
    """What happens from `ONSET` on to a minute's rows.

    Attributes:
        customer: whose heights come in millimetres, and are outliers.
            `*` for everybody's.
        factor: by which they grow.
        failed: whose rows end in an error.
        slow: whose rows take 40 ms rather than 1.2.
        large: whose rows are all answered "large"; `*` for a part of everybody's.
        wide: whose widths are around 40, and are outliers.
        refused: whose calls are refused, once a minute: customer -> pointer and excerpt.
        share: of rows that are recorded, where they are sampled.
        onset: when it begins.
        usual: share of outliers at any time.
        region: a tag that says nothing.
        rows: share of the planted customer's rows that are hit.
    """

    customer: str | None = None
    factor: float = 10.0
    failed: str | None = None
    slow: str | None = None
    large: str | None = None
    wide: str | None = None
    refused: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    share: float = 1.0
    onset: datetime = ONSET
    usual: float = 0.01
    region: bool = False
    rows: float = 1.0


def baseline() -> Baseline:
    """Both numbers in ten bins."""
    cuts = tuple(float(cut) for cut in np.linspace(6, 14, 9))
    counts = (10,) * 10
    return Baseline(
        (
            Feature(name="height", side="input", tensor="height", reading="element", cuts=cuts, counts=counts),
            Feature(name="width", side="input", tensor="width", reading="element", cuts=cuts, counts=counts),
        ),
        100,
    )


async def fill(
    connection: Connection, planted: Planted, *, per_minute: int = 25, version: int = 1, seed: int = 0
) -> int:
    """Record 12 hours; returns the version's id."""
    generator = np.random.default_rng(seed)
    await connection.execute("select make_partitions($1, $2)", START.date(), END.date())
    key = (MODEL, version, f"{version:064x}")
    manifest = {
        "task": SIGNATURE.task,
        "inputs": [{"name": each.name, "dtype": each.dtype, "shape": list(each.shape)} for each in SIGNATURE.inputs],
        "outputs": [{"name": each.name, "dtype": each.dtype, "shape": list(each.shape)} for each in SIGNATURE.outputs],
        "labels": list(LABELS),
    }
    number = await connection.fetchval(
        "insert into model_versions (name, version, weights_sha256, manifest, first_served_at) values ($1, $2, $3, $4, $5) "
        "returning id",
        *(*key, json.dumps(manifest), START),
    )
    await insert_baseline(connection, number, baseline())
    minutes = [START + timedelta(minutes=each) for each in range(int((END - START) / timedelta(minutes=1)))]
    records = [_minute(key, minute, per_minute, planted, generator) for minute in minutes]
    batches = encode_batches(records, {key: KnownVersion(number, key, SIGNATURE)}, "engine-0")
    refused = [_refusal(minute, planted, one, generator) for minute in minutes for one in planted.refused]
    for copy in (*batches, *encode_rejections([each for each in refused if each is not None])):
        await connection.copy_to_table(copy.table, source=copy.stream(), columns=copy.columns, format="binary")
    return int(number)


def _refusal(at: datetime, planted: Planted, customer: str, generator: np.random.Generator) -> RejectionRecord | None:
    """A call of one customer that is refused, as the api writes it down; before the onset one in fifty minutes has one."""
    pointer, excerpt = planted.refused[customer]
    if at < planted.onset and generator.random() > 0.02:
        return None
    tags = {"customer": customer} | ({"region": str(generator.choice(("eu", "us")))} if planted.region else {})
    return RejectionRecord(
        at_us=micros(at),
        request_id=f"refused-{customer}-{micros(at)}",
        traceparent=None,
        method="predict",
        model=MODEL,
        version="stable",
        code=-32602,
        kind="invalid_params",
        pointer=pointer,
        excerpt=excerpt,
        tags=json.dumps(tags).encode(),
    )


def _minute(key: VersionKey, at: datetime, rows: int, planted: Planted, generator: np.random.Generator) -> BatchRecord:
    on = at >= planted.onset
    customers = generator.choice(CUSTOMERS, rows)
    height, width = generator.normal(10, 2, rows), generator.normal(10, 2, rows)
    here = np.full(rows, on & (planted.customer == "*")) | (on & (customers == (planted.customer or "")))
    if planted.rows < 1:
        here &= generator.random(rows) < planted.rows
    height[here] *= planted.factor
    wide = on & (customers == (planted.wide or ""))
    width[wide] += 30
    outlier = here | wide | (generator.random(rows) < planted.usual)
    failed = on & (customers == (planted.failed or ""))
    # What is strange is always kept, the rest by its share.
    kept = np.flatnonzero(outlier | failed | (generator.random(rows) < planted.share))
    always = (outlier | failed)[kept]
    notes = np.array([b"two free refills" if strange else b"plain cup" for strange in here], object)
    # What was added later has chances of its own: pages show figures of a day without it.
    more = np.random.default_rng(micros(at))
    regions = [{"region": region} if planted.region else {} for region in more.choice(("eu", "us"), rows).tolist()]
    ids = sample_ids(len(kept), at.timestamp())
    calls = [
        CallPart(
            1, "stable", f"r-{micros(at)}-{row}", None, json.dumps({"customer": customers[row]} | regions[row]).encode()
        )
        for row in kept.tolist()
    ]
    sampled = planted.share < 1
    labels = generator.integers(0, 2, len(kept)).astype(np.int32)
    large = (
        on & (customers[kept] == (planted.large or ""))
        if planted.large != "*"
        else on & (labels == more.integers(0, 2, len(kept)))
    )
    labels[large] = LABELS.index("large")
    slow = on & (customers[kept] == (planted.slow or ""))
    queue = more.integers(300, 700, len(kept)) + np.where(slow, 40_000, 0)
    return BatchRecord(
        *key,
        policy="sampled" if sampled else "all",
        batch_id=sample_ids(1, at.timestamp()),
        started_us=micros(at),
        executed=rows,
        flagged=int(outlier.sum()),
        failed=int(failed.sum()),
        bucket=32,
        infer_us=700,
        rows=len(kept),
        sample_ids=ids,
        failed_rows=np.flatnonzero(failed[kept]).tolist(),
        columns=[
            pack_column(height[kept].astype(np.float32)),
            pack_column(width[kept].astype(np.float32)),
            pack_column(notes[kept]),
        ],
        outputs=[pack_column(np.full((len(kept), 2), 0.5, np.float32))],
        label_index=labels.tobytes(),
        confidence=np.full(len(kept), 0.5, np.float32).tobytes(),
        value=None,
        p_value=np.where(outlier[kept], 0.005, 0.5).astype(np.float32).tobytes(),
        outlier=outlier[kept].astype(np.uint8).tobytes(),
        queue_us=queue.astype(np.uint32).tobytes(),
        incl_prob=np.where(always, 1.0, planted.share).astype(np.float32).tobytes() if sampled else None,
        why=None,
        redacted=[],
        calls=calls,
    )
