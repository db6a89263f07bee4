"""How long a proof holds: a version is tried once for each software and manifest, also between starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hoverboard.engine.models.proof_messages import Verdict
from hoverboard.engine.models.proofs import Proofs
from hoverboard.errors import VersionRefused
from tests.unit.engine import fakes

MANIFEST = fakes.version(name="proved").manifest
SOFTWARE = {"framework": "1"}


class Tried:
    """Counts trials; each finds the same."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, directory: Path, max_batch: int, deadline_s: float, wanted: Callable[[], bool]) -> Verdict:
        self.sizes.append(max_batch)
        return Verdict(sandbox="seccomp", min_length=(3,))


def test_a_proof_is_remembered_between_starts_and_covers_what_was_found(tmp_path: Path) -> None:
    manifest = replace(MANIFEST, notes=str(tmp_path))  # tried by no other test of this process
    attempt = Tried()
    first = Proofs(tmp_path / "proofs", attempt=attempt).require(tmp_path, manifest, SOFTWARE)
    again = Proofs(tmp_path / "proofs", attempt=attempt).require(tmp_path, manifest, SOFTWARE)
    assert (first, attempt.sizes) == (again, [2])
    assert again.min_length == (3,)
    assert len(list((tmp_path / "proofs").iterdir())) == 1


@pytest.mark.parametrize("what", ["software", "checksums", "limits"])
def test_it_does_not_cover_other_software_files_or_limits(tmp_path: Path, what: str) -> None:
    manifest = replace(MANIFEST, notes=str(tmp_path))
    attempt = Tried()
    proofs = Proofs(None, attempt=attempt)
    proofs.require(tmp_path, manifest, SOFTWARE)
    other = {"software": manifest, "checksums": replace(manifest, sha256={"model.keras": "0"})}.get(
        what, replace(manifest, max_batch=1)
    )
    proofs.require(tmp_path, other, {"framework": "2"} if what == "software" else SOFTWARE)
    assert attempt.sizes == [2, 1 if what == "limits" else 2]


def test_a_refusal_is_not_remembered(tmp_path: Path) -> None:
    manifest = replace(MANIFEST, notes=str(tmp_path))

    def refuse(*_: object) -> Verdict:
        raise VersionRefused("it ended by SIGKILL", check="machine")

    with pytest.raises(VersionRefused):
        Proofs(tmp_path / "proofs", attempt=refuse).require(tmp_path, manifest, SOFTWARE)
    attempt = Tried()
    Proofs(tmp_path / "proofs", attempt=attempt).require(tmp_path, manifest, SOFTWARE)
    assert attempt.sizes == [2]
