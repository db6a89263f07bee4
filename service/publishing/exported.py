"""What an export's file says of its own rows, so that who calibrates on it hears which of them were strange when they came."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["EXPORT_KEY", "tell_doubts"]

_log: Final = logging.getLogger(__name__)

EXPORT_KEY: Final = "hoverboard.export"
"""The key, in the metadata of a Parquet file, of the export's summary as JSON."""
_PARQUET: Final = (".parquet", ".pq")


class _ExportedRows(msgspec.Struct, frozen=True):
    """As much of the summary as is read here."""

    model: str
    rows: int
    labelled: bool = False
    outliers: int = 0
    open_issues: dict[int, int] = {}


def tell_doubts(path: Path, alpha: float) -> tuple[str, ...]:
    """Log why a calibration file may hold what is not normal, with what to do; nothing of a file that is no export.

    Args:
        path: the file.
        alpha: the share of normal samples that may be called outliers. So many are usual, and belong to a calibration.

    Returns:
        The same, a sentence each.
    """
    found = _exported(path)
    if found is None or not found.rows:
        return ()
    labelled = " --labelled" if found.labelled else ""
    export = f"hoverboard export {shlex.quote(found.model)}{labelled} --output {shlex.quote(f'{found.model}-usual')}"
    told = []
    if found.open_issues:
        listed = ", ".join(f"{issue} ({rows:,} rows)" for issue, rows in found.open_issues.items())
        without = "".join(f" --without-issue {issue}" for issue in found.open_issues)
        told.append(
            f"calibration: {path.name} holds outliers of open issues, {listed}: the version will take what is like them for "
            f"normal; leave them out with `{export}{without}`"
        )
    if found.outliers > alpha * found.rows:
        told.append(
            f"calibration: {found.outliers:,} of {found.rows:,} rows in {path.name} were outliers when they came "
            f"({found.outliers / found.rows:.1%}, where {alpha:.1%} are usual): the version will take what is like them for "
            f"normal; `{export} --without-outliers` leaves out all, also the few that are usual"
        )
    for doubt in told:
        _log.warning("%s", doubt)
    return tuple(told)


def _exported(path: Path) -> _ExportedRows | None:
    if path.suffix.lower() not in _PARQUET:
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        about = (pq.read_schema(path).metadata or {}).get(EXPORT_KEY.encode())
        return None if about is None else msgspec.json.decode(about, type=_ExportedRows)
    except (OSError, pa.ArrowException, msgspec.DecodeError):
        return None  # who reads the rows says what is wrong with the file
