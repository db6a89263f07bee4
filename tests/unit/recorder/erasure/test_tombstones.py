from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from hoverboard.journal.records import Record, SupplementRecord
from hoverboard.recorder.erasure.tombstones import Tombstone, digest_of, means
from tests.journaled import MODEL, batch, deployment, ids_of, label, rejection, version

NOW = datetime.now(UTC)
AGO = timedelta(days=2)
TAGS = {"customer": "17", "order": "9"}
TAGGED = batch(3, at=NOW - AGO, tags=TAGS)
ID = ids_of(TAGGED)[1]
SUPPLEMENT = SupplementRecord(MODEL, 1, "knn", TAGGED.sample_ids, {"knn": bytes(12)})


def tag(value: str = "17", *, key: str = "customer", at: datetime = NOW, model: str | None = None) -> Tombstone:
    return Tombstone(1, at, "tag", tag_key=key, tag_digest=digest_of(value), model=model)


def sample(which: uuid.UUID = ID) -> Tombstone:
    return Tombstone(1, NOW, "sample", sample_id=which)


def age(before: datetime, *, model: str | None = None) -> Tombstone:
    return Tombstone(1, NOW, "age", before=before, model=model)


@pytest.mark.parametrize(
    "tombstone, record, meant",
    [
        (sample(), TAGGED, True),
        (sample(uuid.uuid4()), TAGGED, False),
        (sample(), label(ID), True),
        (sample(), rejection(), False),
        (sample(), SUPPLEMENT, True),
        (sample(uuid.uuid4()), SUPPLEMENT, False),
        (age(NOW - AGO / 2), SUPPLEMENT, True),
        (age(NOW - AGO / 2, model="another"), SUPPLEMENT, False),
        (tag(), TAGGED, True),
        (tag("9", key="order"), TAGGED, True),
        (tag("18"), TAGGED, False),
        (tag("17", key="order"), TAGGED, False),
        (tag(model=MODEL), TAGGED, True),
        (tag(model="another"), TAGGED, False),
        (tag(at=NOW - 2 * AGO), TAGGED, False),  # what came after the erasure is not meant
        (tag(), rejection(at=NOW - AGO, tags=TAGS), True),
        (tag(), rejection(at=NOW - AGO), False),
        (tag(), batch(2, at=NOW - AGO), False),
        (age(NOW - AGO / 2), TAGGED, True),
        (age(NOW - 2 * AGO), TAGGED, False),
        (age(NOW - AGO / 2, model="another"), TAGGED, False),
        (age(NOW - AGO / 2), label(ID), True),
        (age(NOW - AGO / 2), rejection(at=NOW - AGO), True),
        (age(NOW - AGO / 2), rejection(at=NOW), False),
        (age(NOW), deployment(), False),
        (age(NOW), version(), False),
        (age(NOW), batch(0), False),
    ],
)
def test_a_tombstone_means_just_what_was_asked_for(tombstone: Tombstone, record: Record, meant: bool) -> None:
    assert means(tombstone, record) is meant
