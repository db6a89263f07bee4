"""Postgres' log as ours: levels by severity, details kept together, and nothing that a client sent."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from hoverboard.postgres.log import PostgresLog


@pytest.fixture(autouse=True)
def _every_level() -> Iterator[None]:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    yield
    structlog.configure(**before)


def logged(*chunks: str) -> list[Any]:
    log = PostgresLog()
    with capture_logs() as lines:
        for chunk in chunks:
            log.feed(chunk.encode())
        log.close()
    return lines


def levels(text: str) -> list[str]:
    return [line["log_level"] for line in logged(text)]


@pytest.mark.parametrize(
    "severity, level",
    [("LOG", "info"), ("WARNING", "warning"), ("ERROR", "error"), ("FATAL", "error"), ("PANIC", "error")],
)
def test_severity_becomes_level(severity: str, level: str) -> None:
    assert logged(f"postmaster|58P02|{severity}:  what happened\n") == [
        {
            "event": "postgres_said",
            "log_level": level,
            "backend": "postmaster",
            "sqlstate": "58P02",
            "text": "what happened",
        }
    ]


def test_a_report_with_its_details_is_one_line() -> None:
    report = (
        "postmaster|F0001|FATAL:  lock file exists\n"
        "postmaster|F0001|HINT:  Is another postmaster\n"
        "\trunning?\n"
        "startup|00000|LOG:  next\n"
    )
    first, second = logged(report)
    assert (first["text"], first["hint"]) == ("lock file exists", "Is another postmaster\nrunning?")
    assert second["text"] == "next"


def test_reports_may_arrive_in_any_pieces() -> None:
    report = "postmaster|00000|LOG:  one\npostmaster|00000|LOG:  two\n"
    whole = logged(report)
    for cut in range(1, len(report)):
        assert logged(report[:cut], report[cut:]) == whole


@pytest.mark.parametrize("added", ["DETAIL:  Failing row contains (secret).", "CONTEXT:  COPY samples, line 1: secret"])
def test_what_a_client_sent_is_not_logged(added: str) -> None:
    report = f"client backend|23505|ERROR:  not this secret\nclient backend|23505|{added}\n\tsecret too\n"
    (line,) = logged(report)
    assert "secret" not in str(line)
    assert (line["log_level"], line["sqlstate"]) == ("debug", "23505")


def test_a_refused_client_is_a_warning_unless_the_server_is_only_starting_or_stopping() -> None:
    assert levels('client backend|28P01|FATAL:  password authentication failed for user "x"\n') == ["warning"]
    assert levels("client backend|57P03|FATAL:  the database system is starting up\n") == ["debug"]
    assert levels("client backend|57P01|FATAL:  terminating connection\n") == ["debug"]


def test_lines_that_are_no_reports_are_passed_on() -> None:
    (line,) = logged("postgres: error while loading shared libraries\n\n")
    assert (line["log_level"], line["text"]) == ("warning", "postgres: error while loading shared libraries")


def test_a_line_without_end_is_not_gathered_for_ever() -> None:
    log = PostgresLog()
    with capture_logs() as lines:
        for _ in range(100):
            log.feed(b"x" * 10_000)
    assert len(lines) >= 10


def test_it_hears_that_postgres_is_ready_in_whatever_pieces() -> None:
    said = "postmaster|00000|LOG:  database system is ready to accept connections\n"
    for cut in range(1, len(said)):
        log = PostgresLog()
        log.feed(b"postmaster|00000|LOG:  starting PostgreSQL\n" + said[:cut].encode())
        assert not log.ready
        log.feed(said[cut:].encode())
        assert log.ready
