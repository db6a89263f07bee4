"""Which columns of a file are a model's inputs, and which are carried over to its output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hoverboard.contract.signature import Signature
from hoverboard.errors import ConfigError

__all__ = ["ColumnPlan", "plan_columns", "refuse_repeated"]


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """How a record becomes an instance.

    Attributes:
        inputs: input name -> the file's column that feeds it.
        bare: whether the instance is the bare value of the one input.
        keep: columns carried over to the output.
        keep_all: whether every column that a record has is carried over (records whose columns are not known ahead).
    """

    inputs: Mapping[str, str]
    bare: bool
    keep: tuple[str, ...] = ()
    keep_all: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column to read, inputs first, without repetition."""
        return tuple(dict.fromkeys((*self.inputs.values(), *self.keep)))

    def instance(self, record: Any) -> Any:
        """The instance in a JSON record; a record that is no object is the instance itself.

        Inputs that the record lacks are left out, so that the codec says which.
        """
        if not isinstance(record, dict):
            return record
        if self.bare:
            return self._bare(record)
        return {name: record[column] for name, column in self.inputs.items() if column in record}

    def _bare(self, record: dict[str, Any]) -> Any:
        (column,) = self.inputs.values()
        if column in record:
            return record[column]
        # A tensor object or bytes, not a record with one other column.
        if "b64" in record:
            return record
        others = [value for name, value in record.items() if name not in self.keep]
        return others[0] if len(others) == 1 and not self.keep_all else record


def plan_columns(
    signature: Signature, names: Sequence[str] | None, *, keep: Sequence[str] = (), keep_all: bool = False
) -> ColumnPlan:
    """Match a model's inputs with a file's columns.

    Args:
        signature: of the version that will answer.
        names: the file's columns; None where each record names its own (jsonl).
        keep: columns to carry over.
        keep_all: carry all of them over.

    Raises:
        ConfigError: the file lacks a column that is needed.
    """
    inputs = [spec.name for spec in signature.inputs]
    bare = len(inputs) == 1
    if names is None:
        return ColumnPlan({name: name for name in inputs}, bare, tuple(dict.fromkeys(keep)), keep_all)
    missing = [column for column in keep if column not in names]
    if missing:
        raise ConfigError(f"--keep {missing[0]}: the input has no such column; it has {_listed(names)}")
    carried = tuple(names) if keep_all else tuple(dict.fromkeys(keep))
    return ColumnPlan(_matched(inputs, names, keep), bare, carried)


def _matched(inputs: Sequence[str], names: Sequence[str], keep: Sequence[str]) -> dict[str, str]:
    missing = [name for name in inputs if name not in names]
    if not missing:
        return {name: name for name in inputs}
    others = [name for name in names if name not in keep]
    # One input and one column that can feed it: whatever that is called, it is meant.
    if len(inputs) == 1 and len(others) == 1:
        return {inputs[0]: others[0]}
    raise ConfigError(f"the input has no column {missing[0]!r} for the model's input; it has {_listed(names)}")


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:12])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > 12 else shown or "no columns"


def refuse_repeated(path: Path, names: Sequence[str]) -> None:
    """Raise ConfigError where two columns share a name: which of them feeds the model would be a guess."""
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ConfigError(f"{path} names {repeated[0]!r} more than once: rename or remove one of those columns")
