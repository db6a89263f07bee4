"""The api's journal: real files, read back with the recorder's reader."""

import asyncio
import errno
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from structlog.testing import capture_logs

from hoverboard.api.journal import JournalRecording, recording
from hoverboard.config import Settings
from hoverboard.contract.catalog import Catalog, ModelStatus
from hoverboard.errors import (
    ConfigError,
    DeadlineExceeded,
    InvalidParams,
    ModelNotFound,
    Overloaded,
    ParseError,
    RpcError,
)
from hoverboard.journal.records import AlarmResetRecord, GapEntry, GapRecord, LabelRecord, RejectionRecord
from hoverboard.journal.writer import JournalFull, JournalWriter
from hoverboard.rpc.call import RpcRequest
from hoverboard.rpc.recording import Rejection
from tests.journals import records_of
from tests.unit.api.conftest import PIXELS, PREDICT, TOKEN, Service, Start, http
from tests.unit.rpc.linear import DIAMONDS, DIGITS, LinearEngine, live, model

SAMPLE = "0198c2f4-7b6a-7cc0-a1d2-5c3be4f60718"
LABEL = LabelRecord(1, UUID(SAMPLE).bytes, "chair", None, "support", "Ada", "r-1")
Open = Callable[..., JournalRecording]


def with_policy(name: str, **policy: Any) -> ModelStatus:
    return replace(model(name, live(1, DIAMONDS if name == "diamonds" else DIGITS)), serving={"recording": policy})


CATALOG = Catalog(
    {
        "digits": model("digits", live(1, DIGITS), live(2, DIGITS)),
        "all": with_policy("all", policy="all", redact=[]),
        "sampled": with_policy("sampled", policy="sampled", redact=[]),
        "hashed": with_policy("hashed", policy="hashed", redact=[]),
        "none": with_policy("none", policy="none", redact=[]),
        "diamonds": with_policy("diamonds", policy="all", redact=["/cut"]),
    },
    generation=1,
    ready=True,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
async def opened(root: Path) -> AsyncIterator[Open]:
    """Opens a recording in a journal of its own; all are closed with the test."""
    found: list[JournalRecording] = []

    def make(
        *, fsync: bool = False, budget: int = 1 << 30, kind: type[JournalWriter] = JournalWriter
    ) -> JournalRecording:
        writer = kind(root, process="api-0", segment_bytes=1 << 20, budget_bytes=budget, fsync=fsync)
        found.append(JournalRecording(writer, lambda: CATALOG, fsync=fsync))
        return found[-1]

    yield make
    for journal in found:
        await journal.close()


def request(**changes: Any) -> RpcRequest:
    return RpcRequest(**{"request_id": "mine", "received_at": time.monotonic(), **changes})


def invalid(name: str | None, pointer: str = "/instances/0/3", got: str = "secret", **changes: Any) -> Rejection:
    return Rejection(request(), InvalidParams(pointer, "a number", got), "predict", name, **changes)


def rejections(root: Path) -> list[RejectionRecord]:
    return [record for record in records_of(root) if isinstance(record, RejectionRecord)]


def gaps(root: Path) -> list[GapEntry]:
    return [entry for record in records_of(root) if isinstance(record, GapRecord) for entry in record.entries]


async def only(journal: JournalRecording, root: Path, rejection: Rejection) -> RejectionRecord:
    await journal.reject(rejection)
    (record,) = rejections(root)
    return record


# -- refused calls -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fsync", [False, True])
async def test_a_refused_call_is_in_the_journal_when_reject_returns(opened: Open, root: Path, fsync: bool) -> None:
    before = time.time_ns() // 1000
    rejection = Rejection(
        request(request_id="r-1", traceparent="00-abc"),
        InvalidParams("/instances/0/3", "a number", "17.5"),
        "predict",
        "digits",
        "stable",
        {"shop": "eu", "größe": "XL"},
    )
    record = await only(opened(fsync=fsync), root, rejection)
    assert before <= record.at_us <= time.time_ns() // 1000
    assert record == RejectionRecord(
        at_us=record.at_us,
        request_id="r-1",
        traceparent="00-abc",
        method="predict",
        model="digits",
        version="stable",
        code=-32602,
        kind="invalid_params",
        pointer="/instances/0/3",
        excerpt="17.5",
        tags='{"shop":"eu","größe":"XL"}'.encode(),
    )


@pytest.mark.parametrize("error", [ParseError(), Overloaded(), DeadlineExceeded(details={"got": "x"}), ModelNotFound()])
async def test_other_errors_have_neither_pointer_nor_excerpt(opened: Open, root: Path, error: RpcError) -> None:
    record = await only(opened(), root, Rejection(request(), error))
    assert (record.code, record.kind) == (error.code, error.kind)
    assert (record.pointer, record.excerpt, record.tags, record.model, record.version) == (None,) * 5


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("digits", True),
        ("all", True),
        ("sampled", True),
        ("hashed", False),
        ("none", False),
        ("diamonds", False),
        ("no-such-model", False),
        (None, False),
    ],
)
async def test_what_a_client_sent_is_kept_only_where_the_policy_keeps_inputs(
    opened: Open, root: Path, name: str | None, shown: bool
) -> None:
    record = await only(opened(), root, invalid(name))
    assert record.excerpt == ("secret" if shown else None)
    assert record.pointer == "/instances/0/3"
    segments = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
    assert (b"secret" in segments) is shown


@pytest.mark.parametrize(
    ("pointer", "kept"),
    [
        ("", ""),
        ("/instances/0/cut/2", "/instances/0/cut/2"),
        ("/instances/7/Ada Lovelace", "/instances/7"),
        ("/inputs/Ada Lovelace/3", "/inputs"),
        ("/inputs/carat/b64", "/inputs/carat/b64"),
        ("/tags/Ada", "/tags"),
        ("/Ada Lovelace", ""),
        ("/1/0", "/1/0"),
    ],
)
async def test_of_a_hidden_model_a_pointer_names_only_what_is_known(
    opened: Open, root: Path, pointer: str, kept: str
) -> None:
    assert (await only(opened(), root, invalid("diamonds", pointer))).pointer == kept


async def test_a_pointer_of_a_model_that_hides_nothing_is_whole(opened: Open, root: Path) -> None:
    assert (await only(opened(), root, invalid("all", "/instances/7/colour"))).pointer == "/instances/7/colour"


async def test_what_is_wrong_with_a_label_is_kept(opened: Open, root: Path) -> None:
    rejection = Rejection(request(), InvalidParams("/sample_id", "a UUIDv7", "chair"), "label")
    assert (await only(opened(), root, rejection)).excerpt == "chair"


async def test_names_are_shortened_and_hold_no_nul(opened: Open, root: Path) -> None:
    rejection = Rejection(
        request(),
        InvalidParams("/tags/a\0b" + "x" * 5000, "a string without NUL", "NUL"),
        "predict\0" + "m" * 5000,
        "digits",
        "canary\0" + "v" * 5000,
    )
    record = await only(opened(), root, rejection)
    texts = (record.method, record.version, record.pointer)
    assert all(text is not None and "\0" not in text and len(text) < 600 for text in texts)
    assert record.pointer is not None and record.pointer.startswith("/tags/a?bxxx")


async def test_a_flood_is_written_up_to_a_rate_and_counted_above_it(opened: Open, root: Path) -> None:
    journal = opened()
    total = 2000
    start = time.monotonic()
    for _ in range(total):
        await journal.reject(invalid("digits", version=1))
    seconds = int(time.monotonic()) - int(start) + 1
    await journal.tick()
    written, missing = len(rejections(root)), gaps(root)
    assert 500 <= written <= 500 * seconds
    assert written + sum(entry.records for entry in missing) == total
    assert {(entry.model, entry.version, entry.reason) for entry in missing} == {("digits", 1, "rejections over 500/s")}


async def test_a_flood_of_made_up_names_makes_one_gap(opened: Open, root: Path) -> None:
    journal = opened()
    for number in range(1500):
        await journal.reject(Rejection(request(), ModelNotFound(), "predict", f"model {number}", number))
    await journal.tick()
    assert {(entry.model, entry.version) for entry in gaps(root)} == {(None, None)}


async def test_over_the_disk_budget_rejections_are_counted_only(opened: Open, root: Path) -> None:
    journal = opened(budget=1)
    await journal.tick()
    await journal.reject(invalid("digits"))
    await journal.tick()
    assert rejections(root) == []
    (entry,) = gaps(root)
    assert (entry.model, entry.reason, entry.records) == ("digits", "rejections: journal budget", 1)


class Full(JournalWriter):
    """A journal on a disk that takes no more frames."""

    def append_all(self, kind: int, payloads: Sequence[bytes]) -> int:
        raise JournalFull("no space left on device")


class Broken(Full):
    """A journal on a disk that takes nothing at all."""

    def shed(self, entries: Sequence[GapEntry]) -> None:
        raise JournalFull("input/output error")


async def test_a_rejection_that_cannot_be_written_is_counted(opened: Open, root: Path) -> None:
    journal = opened(kind=Full)
    with capture_logs() as lines:
        await journal.reject(invalid("digits"))
    await journal.tick()
    assert rejections(root) == []
    (entry,) = gaps(root)
    assert (entry.reason, entry.records) == ("rejections: journal cannot be written", 1)
    assert lines == []


async def test_what_is_written_and_may_be_lost_is_not_counted_too(
    opened: Open, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = opened(fsync=True)

    def failing(_: int) -> None:
        raise OSError(errno.EIO, "input/output error")

    with monkeypatch.context() as broken:
        broken.setattr("hoverboard.journal.appending.synchronise", failing)
        await journal.reject(invalid("digits"))
    await journal.reject(invalid("digits"))
    with monkeypatch.context() as broken:
        broken.setattr("hoverboard.journal.appending.synchronise", failing)
        with pytest.raises(Overloaded, match="Labels cannot be recorded now"):
            await journal.label([LABEL])
    await journal.tick()
    assert gaps(root) == []
    assert len(rejections(root)) == 2


async def test_what_cannot_even_be_counted_never_fails_a_call_and_is_logged_once_a_tick(
    opened: Open, root: Path
) -> None:
    journal = opened(kind=Broken)
    with capture_logs() as lines:
        for _ in range(3):
            await journal.reject(invalid("digits"))
        await journal.tick()
        await journal.tick()
    assert [(line["event"], line["rejections"]) for line in lines] == [("rejections_lost", 3)]
    assert records_of(root) == []


# -- labels ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fsync", [False, True])
@pytest.mark.parametrize("count", [1, 40])
async def test_labels_are_in_the_journal_when_label_returns(opened: Open, root: Path, fsync: bool, count: int) -> None:
    before = time.time_ns() // 1000
    labels = [
        msgspec.structs.replace(LABEL, at_us=before + number, label=f"class {number}") for number in range(count - 1)
    ]
    last = msgspec.structs.replace(LABEL, at_us=before + count, label=None, value=-0.1)
    await opened(fsync=fsync).label([*labels, last])
    written = [record for record in records_of(root) if isinstance(record, LabelRecord)]
    assert [record.label for record in written] == [*(label.label for label in labels), None]
    times = [record.at_us for record in written]
    assert before <= times[0]
    assert times == sorted(set(times))
    assert written[-1] == LabelRecord(times[-1], LABEL.sample_id, None, -0.1, "support", "Ada", "r-1")


async def test_labels_are_refused_over_the_disk_budget(opened: Open, root: Path) -> None:
    journal = opened(budget=1)
    await journal.tick()
    with pytest.raises(Overloaded) as caught:
        await journal.label([LABEL])
    assert caught.value.retry_after_ms is not None
    assert records_of(root) == []


@pytest.mark.parametrize("count", [1, 40])
async def test_labels_that_cannot_be_written_are_refused(opened: Open, root: Path, count: int) -> None:
    with pytest.raises(Overloaded, match="Labels cannot be recorded now"):
        await opened(kind=Full).label([LABEL] * count)


async def test_waiting_for_the_disk_is_shared_and_never_holds_up_the_event_loop(opened: Open, root: Path) -> None:
    threads: set[int] = set()
    sizes: list[int] = []

    class Watched(JournalWriter):
        def append_all(self, kind: int, payloads: Sequence[bytes]) -> int:
            threads.add(threading.get_ident())
            sizes.append(len(payloads))
            return super().append_all(kind, payloads)

    journal = opened(kind=Watched, fsync=True)
    await asyncio.gather(*(journal.label([LABEL]) for _ in range(20)), journal.reject(invalid("digits")))
    assert len(sizes) < 10
    assert sum(sizes) == 21
    assert threading.get_ident() not in threads
    assert len(records_of(root)) == 21


# -- the application ---------------------------------------------------------------------------------------------------


@pytest.fixture
async def recorded(
    start: Start, engine: LinearEngine, tmp_path: Path
) -> AsyncIterator[Callable[..., Awaitable[Service]]]:
    """Starts a service that records into `tmp_path / "journal"`."""
    async with AsyncExitStack() as stack:

        async def started(**settings: Any) -> Service:
            chosen = Settings.load(data_dir=tmp_path, **settings)
            journal = await stack.enter_async_context(recording(chosen, "api-0", lambda: engine.catalog))
            return await start(journal=journal, **settings)

        yield started


async def test_refused_calls_of_the_public_face_are_recorded_with_their_request(
    recorded: Callable[..., Awaitable[Service]], root: Path
) -> None:
    service = await recorded(max_body_bytes=2048)
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"

    def named(name: str) -> dict[str, Any]:
        return {"headers": {"X-Request-ID": name, "traceparent": trace}}

    params = {"model": "digits", "instances": [PIXELS], "tags": {"shop": "eu"}, "version": 9}
    await service.post(PREDICT, **named("fine"))
    await service.post({**PREDICT, "params": params}, **named("no version"))
    await service.post(b"nonsense", **named("parse"))
    await service.post(b"x" * 4096, **named("large"))
    await service.post(PREDICT, headers={"Content-Type": "text/plain", **named("media")["headers"]})
    await service.post(PREDICT, headers={"Content-Encoding": "gzip", **named("gzip")["headers"]})
    assert [(one.request_id, one.code, one.method, one.model) for one in rejections(root)] == [
        ("no version", -32001, "predict", "digits"),
        ("parse", -32700, "", None),
        ("large", -32007, "", None),
        ("media", -32600, "", None),
        ("gzip", -32700, "", None),
    ]
    assert {one.traceparent for one in rejections(root)} == {trace}
    assert rejections(root)[0].tags == b'{"shop":"eu"}'
    assert rejections(root)[0].version == "9"


@pytest.mark.parametrize("value", ["a\tb", "gr\xf6\xdfe", "x" * 129, ""])
async def test_headers_that_are_unfit_to_be_kept_are_not_recorded(
    recorded: Callable[..., Awaitable[Service]], root: Path, value: str
) -> None:
    service = await recorded()
    await service.raw(http(b"nonsense", f"X-Request-ID: {value}", f"traceparent: {value}"))
    (record,) = rejections(root)
    assert record.request_id not in ("", value)
    assert record.request_id.isprintable()
    assert record.traceparent is None


@pytest.mark.parametrize("value", ["a\0b", "a\x7fb"])
@pytest.mark.parametrize("name", ["X-Request-ID", "traceparent"])
async def test_a_header_with_control_characters_is_no_http_and_no_call(
    recorded: Callable[..., Awaitable[Service]], root: Path, name: str, value: str
) -> None:
    service = await recorded()
    assert b" 400 Bad Request" in (await service.raw(http(b"nonsense", f"{name}: {value}"))).splitlines()[0]
    assert records_of(root) == []


async def test_refused_messages_of_a_websocket_are_recorded(
    recorded: Callable[..., Awaitable[Service]], engine: LinearEngine, root: Path
) -> None:
    service = await recorded(ws_max_inflight=1)
    engine.gate.clear()
    async with service.session.ws_connect(service.url + "/ws", headers={"X-Request-ID": "mine"}) as socket:
        await socket.send_json(PREDICT)
        await socket.send_json(PREDICT)
        assert (await socket.receive_json())["error"]["code"] == -32005
        engine.gate.set()
        assert "result" in await socket.receive_json()
    assert [(one.request_id, one.code, one.model) for one in rejections(root)] == [("mine/2", -32005, "digits")]


async def test_the_admin_face_is_not_recorded(recorded: Callable[..., Awaitable[Service]], root: Path) -> None:
    service = await recorded()
    for token in ("wrong", TOKEN):
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        async with service.session.post(service.admin_url, data=b"nonsense", headers=headers) as response:
            assert "error" in await response.json()
    assert records_of(root) == []


async def test_a_label_is_in_the_journal_before_its_answer(
    recorded: Callable[..., Awaitable[Service]], root: Path
) -> None:
    service = await recorded()
    params = {"sample_id": SAMPLE, "label": "chair", "source": "support"}
    _, answer = await service.post({"jsonrpc": "2.0", "method": "label", "params": params, "id": 1})
    assert answer["result"] == {"accepted": 1}
    (record,) = records_of(root)
    assert isinstance(record, LabelRecord)
    assert (record.sample_id, record.label, record.source) == (LABEL.sample_id, "chair", "support")


async def test_nothing_is_recorded_with_recording_off(recorded: Callable[..., Awaitable[Service]], root: Path) -> None:
    service = await recorded(recording="off")
    _, answer = await service.post({"jsonrpc": "2.0", "method": "label", "params": [SAMPLE, "x"], "id": 1})
    assert answer["error"]["code"] == -32601
    discover = {"jsonrpc": "2.0", "method": "rpc.discover", "id": 1}
    _, document = await service.post(discover, headers={"Accept-Encoding": "identity"})
    assert "label" not in [method["name"] for method in document["result"]["methods"]]
    assert not root.exists()


async def test_the_journal_ends_closed_with_all_that_was_answered(tmp_path: Path, root: Path) -> None:
    settings = Settings.load(data_dir=tmp_path, journal_fsync=True)
    async with recording(settings, "api-7", lambda: CATALOG) as journal:
        assert journal is not None
        await journal.label([LABEL])
    assert len(records_of(root, "api-7")) == 1
    assert len(list(root.glob("*/closed"))) == 1


async def test_a_data_directory_that_takes_no_journal_is_one_sentence(tmp_path: Path, root: Path) -> None:
    root.write_text("in the way")
    with pytest.raises(ConfigError, match="no journal can be opened in"):
        async with recording(Settings.load(data_dir=tmp_path), "api-0", lambda: CATALOG):
            pass


@pytest.mark.parametrize("fsync", [False, True])
async def test_a_reset_of_an_alarm_is_journaled(opened: Open, root: Path, fsync: bool) -> None:
    journal = opened(fsync=fsync)
    before = time.time_ns() // 1000
    await journal.reset_alarm("digits", 2, "a new camera", RpcRequest("r-1", 0.0))
    (record,) = records_of(root)
    assert isinstance(record, AlarmResetRecord)
    assert before <= record.at_us <= time.time_ns() // 1000
    assert msgspec.structs.replace(record, at_us=0) == AlarmResetRecord(0, "digits", 2, "a new camera", "admin", "r-1")


async def test_a_reset_that_cannot_be_journaled_is_refused(opened: Open) -> None:
    journal = opened(kind=Full)
    with pytest.raises(Overloaded):
        await journal.reset_alarm("digits", 2, None, RpcRequest("r-1", 0.0))
