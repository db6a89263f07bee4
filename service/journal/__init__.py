"""Append-only segments on disk: what was answered, before it is answered.

In: encoded records, from an engine or api process, one write for what is answered together (`writer`, `group_commit`).
Out: the same records in order, each once, and what is missing between them, for the recorder (`finding`, `reader`).
"""

from __future__ import annotations

from hoverboard.journal.chunk import Chunk, Damage, Frame, Position
from hoverboard.journal.finding import JournalInfo, SegmentInfo, is_alive, journals
from hoverboard.journal.format import NewerFormat
from hoverboard.journal.reader import beginning, read
from hoverboard.journal.writer import JournalFull, JournalWriter, NotOnDisk

__all__ = [
    "Chunk",
    "Damage",
    "Frame",
    "JournalFull",
    "JournalInfo",
    "JournalWriter",
    "NewerFormat",
    "NotOnDisk",
    "Position",
    "SegmentInfo",
    "beginning",
    "is_alive",
    "journals",
    "read",
]
