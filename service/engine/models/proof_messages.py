"""What is said between a process that has a version tried, `proofs`, and the one that tries it, `prover`: a line of JSON each way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from hoverboard.contract.signature import TensorSpec
from hoverboard.engine.models.sandbox import NONE

__all__ = ["Trial", "Verdict"]


class Trial(msgspec.Struct, frozen=True):
    """A version to try.

    Attributes:
        directory: of the version.
        max_batch: largest bucket to run.
        deadline_s: seconds it may take.
    """

    directory: str
    max_batch: int
    deadline_s: float


class Verdict(msgspec.Struct, frozen=True):
    """What came of it.

    Attributes:
        check: which check refused it; empty where it may be served.
        reason: why.
        sandbox: what held while it was tried.
        min_length: of each input: what its manifest says, or else what was found.
    """

    check: str = ""
    reason: str = ""
    sandbox: str = NONE
    min_length: tuple[int | tuple[int, ...] | None, ...] = ()

    def with_lengths(self, inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """The inputs of the version that was tried, with what was found of them."""
        # Remembered verdicts may be from before lengths were looked for.
        least = self.min_length if len(self.min_length) == len(inputs) else (None,) * len(inputs)
        return tuple(
            replace(s, min_length=n) if s.min_length is None else s for s, n in zip(inputs, least, strict=True)
        )
