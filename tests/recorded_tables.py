"""The recorder's tables, filled by the recorder's own code without a service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from hoverboard.contract.signature import Signature, TensorSpec
from hoverboard.database.connect import Connection, connect
from hoverboard.database.known import KnownVersion
from hoverboard.database.text import storable_json
from hoverboard.journal.records import BatchRecord
from hoverboard.postmortem.recorded import SampleBlock, read_samples
from hoverboard.postmortem.window import RecordedWindow
from hoverboard.recorder.rows.encode import encode_batches
from tests.records import KEY, NOW

_AT = datetime.fromtimestamp(NOW, UTC)
WINDOW = RecordedWindow(KEY[0], _AT - timedelta(minutes=1), _AT + timedelta(minutes=1))
"""Around the time that `tests.records` gives its batches."""


class Tables:
    """The recorder's tables in a database of the test's own, filled by the recorder's own code."""

    def __init__(self, url: str) -> None:
        self._runner = asyncio.Runner()
        self._connection: Connection = self.run(connect(url, application="test", role=None))

    def close(self) -> None:
        self.run(self._connection.close())
        self._runner.close()

    def run(self, what: Any) -> Any:
        return self._runner.run(what)

    def execute(self, query: str, *values: Any) -> Any:
        return self.run(self._connection.fetchval(query, *values))

    def filled(self, known: Signature, *records: BatchRecord, version: int = KEY[1]) -> int:
        """Empty the tables of rows, insert these, and return the version's id."""
        said = {"task": known.task, "inputs": _specs(known.inputs), "outputs": _specs(known.outputs)}
        manifest = storable_json(json.dumps(said | {"labels": known.labels}).encode()).decode()
        key = (KEY[0], version, KEY[2])
        self.execute("delete from samples")
        self.execute("delete from predictions")
        self.execute("delete from outliers")
        number = self.execute(
            "insert into model_versions (name, version, weights_sha256, manifest, first_served_at) values ($1, $2, $3, $4, now()) "
            "on conflict (name, version, weights_sha256) do update set first_served_at = now() returning id",
            *(*key, manifest),
        )
        for copy in encode_batches(records, {KEY: KnownVersion(number, KEY, known)}, "engine-0"):
            self.run(
                self._connection.copy_to_table(copy.table, source=copy.stream(), columns=copy.columns, format="binary")
            )
        return int(number)

    def read(self, known: Signature, ids: Sequence[int], **options: Any) -> list[SampleBlock]:
        async def blocks() -> list[SampleBlock]:
            window = options.pop("window", WINDOW)
            async with self._connection.transaction(readonly=True):
                return [block async for block in read_samples(self._connection, known, window, ids, **options)]

        found: list[SampleBlock] = self.run(blocks())
        return found

    def of(self, ask: Callable[[Connection], Any]) -> Any:
        return self.run(ask(self._connection))


def _specs(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    return [{"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)} for spec in specs]
