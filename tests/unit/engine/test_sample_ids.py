from __future__ import annotations

import time
import uuid

from hoverboard.engine.sample_ids import sample_ids


def test_each_id_is_a_uuid_of_version_7_with_its_time_in_front() -> None:
    now = time.time()
    raw = sample_ids(100, now)
    ids = [uuid.UUID(bytes=raw[i : i + 16]) for i in range(0, len(raw), 16)]
    assert len(set(ids)) == 100
    for one in ids:
        assert one.version == 7
        assert one.variant == uuid.RFC_4122
        assert one.int >> 80 == int(now * 1000)
