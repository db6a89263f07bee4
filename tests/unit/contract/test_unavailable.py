"""Which error a version's state answers with, for the api and the engine alike."""

from __future__ import annotations

from typing import Any

import pytest

from hoverboard.contract.catalog import ModelStatus, VersionStatus
from hoverboard.contract.unavailable import unavailable
from hoverboard.errors import ModelNotFound, NotReady, RpcError, VersionNotFound


def _model(*versions: VersionStatus, **more: Any) -> ModelStatus:
    return ModelStatus("m", {}, versions, **more)


@pytest.mark.parametrize(
    ("model", "wanted", "starting", "kind", "message"),
    [
        (None, "stable", True, NotReady, "The engine is starting"),
        (None, "stable", False, ModelNotFound, "There is no model 'm'"),
        (_model(), 7, False, VersionNotFound, "Model 'm' has no version 7; it has none"),
        (
            _model(*(VersionStatus(number, "available") for number in range(8, 20))),
            7,
            False,
            VersionNotFound,
            "Model 'm' has no version 7; it has ..., 10, 11, 12, 13, 14, 15, 16, 17, 18, 19",
        ),
        (_model(), "canary", False, VersionNotFound, "Model 'm' has no version in the role 'canary'"),
        (_model(), "stable", True, NotReady, "No version of 'm' is live yet"),
        (_model(VersionStatus(1, "loading")), "stable", False, NotReady, "No version of 'm' is live yet"),
        (_model(), "stable", False, VersionNotFound, "Model 'm' has no live version: no version is on disk"),
        (
            _model(VersionStatus(1, "refused", "the disk is full", passing=True), problem="none can go live"),
            "stable",
            False,
            NotReady,
            "Model 'm' has no live version: none can go live",
        ),
        (
            _model(VersionStatus(1, "refused", "the disk is full", passing=True)),
            1,
            False,
            NotReady,
            "Version 1 of 'm' cannot be loaded now: the disk is full",
        ),
        (
            _model(VersionStatus(1, "refused", "it is bad")),
            1,
            False,
            VersionNotFound,
            "Version 1 of 'm' was refused; models.describe says why",
        ),
        (_model(VersionStatus(1, "available")), 1, False, NotReady, "Version 1 of 'm' is available"),
    ],
)
def test_a_call_that_nothing_answers_is_told_why_and_whether_waiting_may_help(
    model: ModelStatus | None, wanted: int | str, starting: bool, kind: type[RpcError], message: str
) -> None:
    error = unavailable("m", model, wanted, starting=starting)
    assert (type(error), error.message) == (kind, message)
    assert (error.retry_after_ms is not None) is error.retryable


def test_what_a_caller_sent_and_what_a_graph_said_are_cut_short() -> None:
    assert len(unavailable("m" * 10**6, None, "stable", starting=False).message) <= 200
    assert len(unavailable("m", _model(problem="x" * 10**6), "stable", starting=False).message) <= 500
    assert len(unavailable("m", _model(), "r" * 10**6, starting=False).message) <= 200


def test_a_wrong_name_is_told_the_one_that_was_meant_or_a_few_of_those_there_are() -> None:
    def message(name: str, *names: str) -> str:
        return unavailable(name, None, "stable", starting=False, names=names).message

    assert message("ticket", "loans", "tickets") == "There is no model 'ticket'; is 'tickets' meant?"
    assert message("nope", "loans", "tickets") == "There is no model 'nope'; models: loans, tickets"
    assert message("nope", *"abcdefg") == "There is no model 'nope'; models: a, b, c, d, e, ..."
    assert message("nope") == "There is no model 'nope'"
    assert len(message("n" * 10**6, *(f"{letter * 60}" for letter in "abcdef"))) <= 200
