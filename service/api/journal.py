"""The api's own journal: refused calls and labels, written before they are answered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import msgspec
import structlog

from hoverboard.codec.error_words import excerpt, token
from hoverboard.config import Settings
from hoverboard.contract.catalog import Catalog, ModelStatus
from hoverboard.errors import InvalidParams, Overloaded
from hoverboard.journal.group_commit import Committer
from hoverboard.journal.records import AlarmResetRecord, GapEntry, LabelRecord, Record, RejectionRecord
from hoverboard.journal.writer import JournalWriter, NotOnDisk, open_writer
from hoverboard.rpc.call import RpcRequest
from hoverboard.rpc.methods.predict import PredictParams
from hoverboard.rpc.recording import Rejection
from hoverboard.telemetry import families
from hoverboard.telemetry.recording_state import Part
from hoverboard.telemetry.sampling import Sampler

__all__ = ["JournalRecording", "recording"]

log = structlog.get_logger(__name__)

_MOST_REJECTIONS_PER_S: Final = 500
_ADMIN: Final = "admin"
_TICK_S: Final = 1.0
_RETRY_MS: Final = 1000
_NAME, _POINTER = 200, 500
"""Most characters that are kept of a name, and of a pointer."""

_TOO_MANY: Final = f"rejections over {_MOST_REJECTIONS_PER_S}/s"
_OVER_BUDGET: Final = "rejections: journal budget"
_CANNOT_WRITE: Final = "rejections: journal cannot be written"


class JournalRecording:
    """A `Recording` in this process's journal, which takes resets of alarms too.

    Args:
        writer: the journal.
        catalog: the models as they are now: their policies say whether a refused call's values may be written down.
        fsync: whether the journal waits for the disk.
    """

    def __init__(self, writer: JournalWriter, catalog: Callable[[], Catalog], *, fsync: bool) -> None:
        self._writer = writer
        self._committer = Committer(writer, fsync=fsync)
        self._catalog = catalog
        self._rate = Sampler(_MOST_REJECTIONS_PER_S)
        self._lost = 0

    async def label(self, labels: Sequence[LabelRecord]) -> None:
        """See `CallRecording.label`."""
        if self._writer.over_budget:
            raise Overloaded("The journals' disk budget is used up", retry_after_ms=_RETRY_MS)
        if not await self._kept(labels):
            raise Overloaded("Labels cannot be recorded now", retry_after_ms=_RETRY_MS)

    async def reset_alarm(self, model: str, version: int, reason: str | None, request: RpcRequest) -> None:
        """See `CallRecording.reset_alarm`."""
        now = time.time_ns() // 1000
        record = AlarmResetRecord(now, model, version, reason, _ADMIN, request.request_id)
        if not await self._kept([record]):
            raise Overloaded("The reset cannot be recorded now", retry_after_ms=_RETRY_MS)

    async def reject(self, rejection: Rejection) -> None:
        """See `CallRecording.reject`."""
        now = time.time_ns() // 1000
        status = None if rejection.model is None else self._catalog().models.get(rejection.model)
        try:
            reason = await self._write(rejection, status, now)
            if reason is not None:
                await self._count(_gap(rejection, status, reason, now))
        except Exception:
            log.exception("rejection_failed", request_id=rejection.request.request_id)

    async def tick(self) -> None:
        """The journal's own housekeeping; about once a second."""
        if self._lost:
            log.critical("rejections_lost", rejections=self._lost)
            self._lost = 0
        await self._committer.tick()

    async def close(self) -> None:
        """Write what waits, and close the journal."""
        await self._committer.close()

    async def _write(self, rejection: Rejection, status: ModelStatus | None, now: int) -> str | None:
        """Write a refused call down, or say why that cannot be."""
        if self._rate.next() is None:
            return _TOO_MANY
        if self._writer.over_budget:
            return _OVER_BUDGET
        record = _record(rejection, status, now)
        try:
            return None if await self._committer.append([record]) else _CANNOT_WRITE
        except NotOnDisk:
            return None  # whoever reads the journal finds it, or counts it as missing

    async def _kept(self, records: Sequence[Record]) -> bool:
        """Write all of some records, to stay."""
        try:
            return await self._committer.append(records) == len(records)
        except NotOnDisk:
            return False

    async def _count(self, entry: GapEntry) -> None:
        families.shed.labels(entry.model or "", entry.reason).inc(entry.records)
        if not await self._committer.shed(entry):
            self._lost += entry.records


@asynccontextmanager
async def recording(
    settings: Settings, process: str, catalog: Callable[[], Catalog], part: Part | None = None
) -> AsyncIterator[JournalRecording | None]:
    """The journal of one api process, closed in the end; None with `recording = "off"`.

    Raises:
        ConfigError: the data directory takes none.
    """
    if settings.recording == "off":
        yield None
        return
    journal = JournalRecording(open_writer(settings, process, part), catalog, fsync=settings.journal_fsync)
    ticking = asyncio.create_task(_tick(journal))
    try:
        yield journal
    finally:
        ticking.cancel()
        await asyncio.wait([ticking])
        await journal.close()


async def _tick(journal: JournalRecording) -> None:
    while True:
        await asyncio.sleep(_TICK_S)
        try:
            await journal.tick()
        except Exception:
            log.exception("journal_tick_failed")


def _record(rejection: Rejection, status: ModelStatus | None, now: int) -> RejectionRecord:
    error, request = rejection.error, rejection.request
    details = error.details or {}
    pointer = str(details["pointer"]) if "pointer" in details else None
    cause = error.cause
    said = details.get("got" if isinstance(error, InvalidParams) else "reason") if cause is None else cause.reason
    version = rejection.version if cause is None else cause.version
    shown = None if said is None else str(said)
    if pointer is not None and rejection.method == "predict" and (status is None or _hides(status)):
        pointer, shown = _outline(pointer, status), None
    return RejectionRecord(
        at_us=now,
        request_id=request.request_id,
        traceparent=request.traceparent,
        method=excerpt(rejection.method, _NAME),
        model=None if rejection.model is None else excerpt(rejection.model, _NAME),
        version=None if version is None else excerpt(str(version), _NAME),
        code=error.code,
        kind=error.kind,
        pointer=None if pointer is None else excerpt(pointer, _POINTER),
        excerpt=None if shown is None else excerpt(shown, _NAME),
        tags=None if rejection.tags is None else msgspec.json.encode(rejection.tags),
    )


def _hides(status: ModelStatus) -> bool:
    """Whether a model's inputs are not written down as they came."""
    policy = status.serving.get("recording", {})
    unread = "unread" in status.serving
    return unread or policy.get("policy") in ("hashed", "none") or bool(policy.get("redact"))


_MEMBERS: Final = frozenset({*PredictParams.__struct_fields__, "b64", "dtype", "shape"})


def _outline(pointer: str, status: ModelStatus | None) -> str:
    """A pointer up to the first word that is the caller's own."""
    signatures = [version.signature for version in status.versions if version.signature] if status else []
    names = _MEMBERS | {token(spec.name) for signature in signatures for spec in signature.inputs}
    kept = []
    for word in pointer.split("/")[1:]:
        if not word.isdecimal() and word not in names:
            break
        kept.append(f"/{word}")
    return "".join(kept)


def _gap(rejection: Rejection, status: ModelStatus | None, reason: str, now: int) -> GapEntry:
    """A refused call that is only counted; of names only those that exist, so that strangers cannot make gaps grow."""
    version = rejection.version
    if status is None or not isinstance(version, int) or status.version(version) is None:
        version = None
    return GapEntry(None if status is None else status.name, version, reason, 1, 0, 0, now, now)
