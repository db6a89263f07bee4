"""Why a number or a role answers nothing now: the one place where a version's state becomes an error.

The api asks before it encodes a call, the engine when the call arrives, and both must say the same: a version may have
come or gone in between.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from itertools import islice
from typing import Final

from hoverboard.contract.catalog import STABLE, ModelStatus, versions_in_words
from hoverboard.errors import ModelNotFound, NotReady, RpcError, VersionNotFound

__all__ = ["unavailable"]

_RETRY_MS: Final = 1000
_LONGEST: Final = 500
"""Characters of a message: a reason may quote what a graph or a file says."""
_NAMES_COMPARED: Final = 100
"""Names that a wrong one is held against: it costs the event loop some microseconds for each."""
_NAMES_SHOWN: Final = 5


def unavailable(
    name: str, model: ModelStatus | None, number_or_role: int | str, *, starting: bool, names: Collection[str] = ()
) -> RpcError:
    """The error for a call that nothing answers: retryable only where waiting may help.

    Args:
        name: the model's, as the caller gave it.
        model: what is known of it; None where nothing is.
        number_or_role: the number or role that was called.
        starting: whether the engine has not had its first look at all models yet.
        names: of the models there are, which `models.list` tells every caller; to name the one that was meant.
    """
    if model is None:
        if starting:
            return NotReady("The engine is starting", retry_after_ms=_RETRY_MS)
        message = f"There is no model {name[:100]!r}{_instead(name[:100], names)}"
        return ModelNotFound(message[:200], details={"model": name[:100]})
    if isinstance(number_or_role, int):
        return _of_number(model, number_or_role)
    if number_or_role == STABLE:
        return _of_stable(model, starting=starting)
    details = {"model": name, "version": number_or_role[:100]}
    return VersionNotFound(f"Model {name!r} has no version in the role {number_or_role[:100]!r}", details=details)


def _instead(name: str, names: Collection[str]) -> str:
    """The model that was probably meant, or the first few of those there are."""
    known = list(islice(names, _NAMES_COMPARED))
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; is {close[0]!r} meant?"
    if not known:
        return ""
    more = ", ..." if len(names) > _NAMES_SHOWN else ""
    return f"; models: {', '.join(known[:_NAMES_SHOWN])}{more}"


def _of_stable(model: ModelStatus, *, starting: bool) -> RpcError:
    if starting or any(status.state == "loading" for status in model.versions):
        return NotReady(
            f"No version of {model.name!r} is live yet", details={"model": model.name}, retry_after_ms=_RETRY_MS
        )
    # Waiting helps only where this machine is at fault: all else somebody has to mend first.
    reason = model.problem or "no version is on disk"
    details = {"model": model.name, "reason": reason}
    message = f"Model {model.name!r} has no live version: {reason}"[:_LONGEST]
    if any(status.passing for status in model.versions):
        return NotReady(message, details=details, retry_after_ms=_RETRY_MS)
    return VersionNotFound(message, details=details)


def _of_number(model: ModelStatus, number: int) -> RpcError:
    status = model.version(number)
    details = {"model": model.name, "version": number}
    if status is None:
        there = versions_in_words(status.version for status in model.versions)
        return VersionNotFound(f"Model {model.name!r} has no version {number}; {there}", details=details)
    if status.passing:
        message = f"Version {number} of {model.name!r} cannot be loaded now: {status.reason}"[:_LONGEST]
        return NotReady(message, details={**details, "reason": status.reason}, retry_after_ms=_RETRY_MS)
    if status.state == "refused":
        message = f"Version {number} of {model.name!r} was refused; models.describe says why"
        return VersionNotFound(message, details={**details, "reason": status.reason})
    return NotReady(f"Version {number} of {model.name!r} is {status.state}", details=details, retry_after_ms=_RETRY_MS)
