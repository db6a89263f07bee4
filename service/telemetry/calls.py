"""Calls, counted for every one of them (half a microsecond), by labels that strangers cannot make up.

Labels that come from a client are only used once they are known to the service; anything else is `unknown`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from hoverboard.contract.catalog import Catalog, ModelStatus
from hoverboard.errors import BY_KIND, Cancelled, Violation
from hoverboard.telemetry import families
from hoverboard.telemetry.tally import Tally

__all__ = ["CallMetrics", "calls"]

UNKNOWN: Final = "unknown"

_ROLES: Final = frozenset({"", "stable", "pinned", "canary", "shadow"})
_CODES: Final = frozenset({0, Cancelled.code, *(error.code for error in BY_KIND.values())})

_CallKey = tuple[str, str | None, int | None, str | None, int]


class CallMetrics:
    """The calls of this process, and the labels that it knows."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin anew, knowing no label."""
        self._methods: frozenset[str] = frozenset()
        self._versions: Mapping[str, frozenset[int]] = {}
        self._inputs: Mapping[str, frozenset[str]] = {}
        self._by_key: dict[_CallKey, Tally] = {}
        self._tallies: dict[tuple[str, ...], Tally] = {}

    def flush(self) -> None:
        """Carry over to Prometheus what is counted in plain Python."""
        for tally in list(self._tallies.values()):
            tally.flush()

    def know_methods(self, names: Iterable[str]) -> None:
        """Which JSON-RPC methods may appear as a label."""
        self._methods = frozenset(names)
        self._by_key.clear()

    def know_catalog(self, catalog: Catalog) -> None:
        """Which models, versions and inputs may appear as labels of calls."""
        self._versions = {
            name: frozenset(status.version for status in model.versions) for name, model in catalog.models.items()
        }
        self._inputs = {name: _inputs(model) for name, model in catalog.models.items()}
        self._by_key.clear()

    def observe(  # noqa: PLR0917 - called for every call; positional arguments are quicker
        self,
        method: str,
        model: str | None,
        version: int | None,
        role: str | None,
        code: int,
        seconds: float,
    ) -> None:
        """One answered call.

        Args:
            method: as the client named it.
            model: likewise; None where the method has none.
            version: the number that answered; None where none did.
            role: the role it answered in; None when asked for by number.
            code: the JSON-RPC error code, 0 for success.
            seconds: from arrival to answer.
        """
        # As they came, without making text of them: this is for every call.
        key = (method, model, version, role, code)
        (self._by_key.get(key) or self._resolve(key)).add(seconds)

    def _resolve(self, key: _CallKey) -> Tally:
        """The tally of one kind of call; found by `key` only where every label is known: strangers cannot grow the dict."""
        method, model, version, role, code = key
        known = self._versions.get(model) if model else None
        labels = (
            method if method in self._methods else UNKNOWN,
            "" if not model else UNKNOWN if known is None else model,
            "" if version is None else str(version) if known and version in known else UNKNOWN,
            (role or "") if (role or "") in _ROLES else UNKNOWN,
            str(code) if code in _CODES else UNKNOWN,
        )
        tally = self._tallies.get(labels)
        if tally is None:
            counter, histogram = families.calls.labels(*labels), families.call_seconds.labels(*labels)
            tally = Tally(families.SECONDS, counter, histogram)
            if isinstance(counter, families.Uncounted) or isinstance(histogram, families.Uncounted):
                return tally
            self._tallies[labels] = tally
        # A caller that makes up names would else add an entry with each call.
        if UNKNOWN not in labels:
            self._by_key[key] = tally
        return tally

    def violated(self, model: str | None, input_name: str | None, violation: Violation) -> None:
        """One predict call whose sample broke the model's contract; no input where the sample as a whole did."""
        inputs = self._inputs.get(model) if model else None
        families.violations.labels(
            model if model and inputs is not None else UNKNOWN,
            input_name if input_name and inputs is not None and input_name in inputs else UNKNOWN,
            violation,
        ).inc()


def _inputs(model: ModelStatus) -> frozenset[str]:
    signatures = [status.signature for status in model.versions if status.signature is not None]
    return frozenset(spec.name for signature in signatures for spec in signature.inputs)


calls: Final = CallMetrics()
"""Those of this process."""
