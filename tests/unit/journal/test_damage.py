"""Whatever happens to a journal's files: reading ends, and returned and lost records add up to what was written."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hoverboard.journal.chunk import Frame, Position
from hoverboard.journal.format import FRAME_HEAD_BYTES, HEADER_BYTES, MARKER, segment_name
from hoverboard.journal.segment import Found, SegmentFile, out_of_place
from tests.unit.journal.blows import Blow, strike
from tests.unit.journal.written import (
    BATCH,
    GAP,
    MIB,
    REJECTION,
    Everything,
    copied,
    entry,
    locked,
    open_writer,
    read_all,
    read_on,
)

SEGMENTS = 6


@dataclass(frozen=True)
class Written:
    """A journal, and what it holds.

    Attributes:
        directory: closed in order, or as a kill -9 left it.
        segments: the bytes of its files.
        frames: with their bytes on disk.
    """

    directory: Path
    closed: bool
    segments: list[bytes] = field(repr=False)
    frames: list[tuple[Frame, bytes]] = field(repr=False)

    @property
    def records(self) -> int:
        return sum(frame.count for frame, _ in self.frames)


def write(root: Path, *, closed: bool) -> Written:
    """Batches that carry markers, versions, rejections and gaps, in several segments."""
    generator = random.Random(5)
    writer = open_writer(root, segment_bytes=3200)
    for i in range(48):
        payload = generator.randbytes(generator.choice([0, 10, 300, 700])) + MARKER * (i % 3) + i.to_bytes(2, "big")
        if i % 3 == 2:
            writer.append(REJECTION, payload, count=1)
        else:
            writer.append(BATCH, payload, count=generator.randrange(70), needs={"v": b"version"})
        if i % 10 == 9:
            writer.shed([entry(i)])
    # Every segment is sealed in the one case, the last one is not in the other.
    directory = writer.directory if closed else copied(writer.directory, root / "orphan")
    writer.close()
    contents = [path.read_bytes() for path in sorted(directory.glob("*.seg"))]
    frames = [
        (one, contents[one.segment][one.offset :][: FRAME_HEAD_BYTES + len(one.payload)])
        for one in read_all(directory).frames
    ]
    assert len(contents) == SEGMENTS and len(frames) == 48 + 4 + SEGMENTS
    return Written(directory, closed, contents, frames)


@pytest.fixture(scope="module", params=[True, False], ids=["closed", "orphan"])
def written(request: pytest.FixtureRequest) -> Iterator[Written]:
    with tempfile.TemporaryDirectory() as below:
        yield write(Path(below), closed=request.param)


# -- blows ---------------------------------------------------------------------------------------------------------------


def blows(*kinds: str) -> st.SearchStrategy[list[Blow]]:
    share = st.floats(0, 1, exclude_max=True)
    return st.lists(
        st.tuples(st.sampled_from(kinds), st.integers(0, SEGMENTS - 1), share, share, share), min_size=1, max_size=4
    )


def struck(written: Written, below: Path, hits: list[Blow]) -> tuple[Path, dict[int, bytes]]:
    directory = copied(written.directory, below)
    segments = dict(enumerate(written.segments))
    for hit in hits:
        strike(segments, hit, SEGMENTS)
    for path in directory.glob("*.seg"):
        path.unlink()
    for number, data in segments.items():
        (directory / segment_name(number)).write_bytes(data)
    return directory, segments


def places(data: bytes, piece: bytes) -> Iterator[int]:
    place = data.find(piece)
    while place >= 0:
        yield place
        place = data.find(piece, place + 1)


def most_in_order(written: Written, segments: dict[int, bytes]) -> int:
    """How many frames can be read in order at most, of those whose bytes are all still somewhere in their segment."""
    total = 0
    for number, data in segments.items():
        whole = sorted(
            (place, frame.seq)
            for frame, piece in written.frames
            if frame.segment == number
            for place in places(data, piece)
        )
        best: list[int] = []
        for i, (_, seq) in enumerate(whole):
            best.append(1 + max((best[j] for j in range(i) if whole[j][1] < seq), default=0))
        total += max(best, default=0)
    return total


def observe(directory: Path, max_bytes: int, *, followed: bool) -> Everything:
    """Read to the end; where `followed`, first as a living writer's, and from there on when it is gone."""
    found = Everything()
    with locked(directory) if followed else nullcontext():
        if followed:
            assert read_on(directory, found, max_bytes).state == "waiting"
    read_on(directory, found, max_bytes)
    assert found.state == "finished"
    again = read_on(directory, Everything(end=found.end, generation=found.generation), max_bytes)
    assert again.end == found.end and again.frames == []
    return found


def check(written: Written, segments: dict[int, bytes], found: Everything) -> None:
    """What holds whatever has happened."""
    originals = {frame.seq: frame for frame, _ in written.frames}
    read = [frame for frame in found.frames if frame.offset >= 0]
    seqs = [frame.seq for frame in read]
    assert seqs == sorted(set(seqs))
    assert len(seqs) == most_in_order(written, segments)
    for frame in read:
        original = originals[frame.seq]
        assert (frame.kind, frame.payload, frame.count, frame.rows, frame.segment) == (
            original.kind,
            original.payload,
            original.count,
            original.rows,
            original.segment,
        )
    unknown = [damage for damage in found.damages if damage.records is None]
    lost = sum(damage.records or 0 for damage in found.damages)
    assert found.records + lost == found.end.rows
    if written.closed:
        assert unknown == [] and found.end.rows == written.records
    else:
        # Only of what follows the last frame that can be read, or told by its head, nobody can know.
        assert found.end.rows <= written.records and unknown in ([], found.damages[-1:])
        if seqs and seqs[-1] == written.frames[-1][0].seq:
            assert found.end.rows == written.records
    generations = [gap.generation for gap in found.gaps]
    assert len(set(generations)) == len(generations)


_PLENTY = settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
_sizes = st.sampled_from([1, 900, 5000, MIB])


@_PLENTY
@given(
    hits=blows("flip", "zero", "truncate", "delete", "copy at end", "copy over"), size=_sizes, followed=st.booleans()
)
@example(hits=[("truncate", 5, 0.0, 0.0, 0.0)], size=MIB, followed=False)
@example(hits=[("delete", i, 0.0, 0.0, 0.0) for i in range(SEGMENTS)], size=MIB, followed=False)
@example(hits=[("flip", i, 0.001, 0.0, 0.0) for i in range(SEGMENTS)], size=MIB, followed=True)
def test_every_frame_that_is_whole_is_read_once_and_what_is_lost_is_counted(
    written: Written, hits: list[Blow], size: int, followed: bool
) -> None:
    with tempfile.TemporaryDirectory() as below:
        directory, segments = struck(written, Path(below), hits)
        found = observe(directory, size, followed=followed)
    check(written, segments, found)
    whole = [frame.seq for frame, data in written.frames if data in segments.get(frame.segment, b"")]
    assert [frame.seq for frame in found.frames if frame.offset >= 0] == whole


@_PLENTY
@given(
    hits=blows("flip", "zero", "truncate", "cut", "repeat", "frame again", "delete", "copy at end", "copy over"),
    size=_sizes,
    followed=st.booleans(),
)
def test_what_was_cut_out_or_stands_twice_hides_nothing(
    written: Written, hits: list[Blow], size: int, followed: bool
) -> None:
    with tempfile.TemporaryDirectory() as below:
        directory, segments = struck(written, Path(below), hits)
        check(written, segments, observe(directory, size, followed=followed))


@_PLENTY
@given(noise=st.binary(max_size=300), place=st.floats(0, 1), number=st.integers(0, SEGMENTS - 1))
def test_a_reserve_or_totals_file_of_noise_stops_nobody(
    written: Written, noise: bytes, place: float, number: int
) -> None:
    with tempfile.TemporaryDirectory() as below:
        directory = copied(written.directory, Path(below))
        (directory / "closed").write_bytes(noise)
        (directory / "reserve").write_bytes(noise)
        found = observe(directory, MIB, followed=False)
        assert found.records == written.records and found.damages == []


# -- the same, one case at a time ------------------------------------------------------------------------------------------


def batches(root: Path, payloads: list[bytes], *, closed: bool = True) -> Path:
    writer = open_writer(root / "journal", segment_bytes=8 * MIB)
    for payload in payloads:
        writer.append(BATCH, payload, count=10)
    directory = writer.directory if closed else copied(writer.directory, root / "orphan")
    writer.close()
    return directory


def place_of(payload: bytes, segment: Path) -> int:
    return segment.read_bytes().index(payload)


def change(segment: Path, place: int, new: bytes) -> None:
    data = bytearray(segment.read_bytes())
    data[place : place + len(new)] = new
    segment.write_bytes(data)


@pytest.mark.parametrize("size", [1, MIB])
@pytest.mark.parametrize("followed", [False, True])
def test_a_segment_cut_between_two_frames_is_missed_by_the_next_one_or_by_the_totals(
    written: Written, tmp_path: Path, followed: bool, size: int
) -> None:
    for number, data in enumerate(written.segments):
        with SegmentFile(written.directory, UUID(written.directory.name), number) as file:
            whole = list(file.frames(HEADER_BYTES))
        assert whole[-1].end == len(data)
        for first, cut_at in enumerate(whole):
            directory = copied(written.directory, tmp_path / f"{number}-{first}")
            (directory / segment_name(number)).write_bytes(data[: cut_at.offset])
            found = observe(directory, size, followed=followed)
            lost = whole[first:]
            missing = ("missing", lost[0].head.seq, len(lost), sum(one.head.records for one in lost))
            # Nobody can tell the cut end of an orphan from one that was killed before it wrote more.
            expected = [] if number == SEGMENTS - 1 and not written.closed else [missing]
            assert [(one.reason, one.seq, one.frames, one.records) for one in found.damages] == expected
            assert [(one.segment, one.offset) for one in found.damages] == [(number, cut_at.offset)] * len(expected)
            assert [one.seq for one in found.frames if one.offset >= 0] == [
                frame.seq for frame, _ in written.frames if frame.segment != number or frame.offset < cut_at.offset
            ]


def test_a_gap_that_was_cut_off_the_end_of_an_orphan_is_found_in_the_reserve(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "journal")
    writer.append(BATCH, b"first", count=10)
    end = (writer.directory / segment_name(0)).stat().st_size
    writer.shed([entry(7)])
    writer.append(BATCH, b"second", count=10)
    directory = copied(writer.directory, tmp_path / "orphan")
    segment = directory / segment_name(0)
    segment.write_bytes(segment.read_bytes()[:end])
    found = read_all(directory)
    assert found.payloads[:1] == [b"first"] and found.records == 10
    assert [one.records for gap in found.gaps for one in gap.entries] == [7]


def test_the_last_frame_of_an_orphan_still_says_how_much_was_in_it(tmp_path: Path) -> None:
    directory = batches(tmp_path, [b"first" * 20, b"second" * 20], closed=False)
    segment = directory / segment_name(0)
    change(segment, place_of(b"second" * 20, segment), b"S")
    found = read_all(directory)
    (damage,) = found.damages
    assert (damage.reason, damage.seq, damage.frames, damage.records) == ("damaged", 1, 1, 10)
    assert found.payloads == [b"first" * 20]


def test_several_damaged_frames_at_the_end_of_an_orphan_do_so_too(tmp_path: Path) -> None:
    directory = batches(tmp_path, [b"first" * 20, b"second" * 20, b"third" * 20], closed=False)
    segment = directory / segment_name(0)
    change(segment, place_of(b"second" * 20, segment), b"S")
    change(segment, place_of(b"third" * 20, segment), b"T")
    assert [(one.frames, one.records) for one in read_all(directory).damages] == [(2, 20)]


@pytest.mark.parametrize("last", ["a copy of the first, damaged", "the second, damaged, and others"])
def test_a_damaged_end_that_may_hold_more_is_torn(tmp_path: Path, last: str) -> None:
    directory = batches(tmp_path, [b"first" * 20, b"second" * 20], closed=False)
    segment = directory / segment_name(0)
    data = segment.read_bytes()
    second = data.index(MARKER, HEADER_BYTES + 1)
    first, second_frame = data[HEADER_BYTES:second], data[second:]
    damaged_first, damaged_second = first[:-1] + b"?", second_frame[:-1] + b"?"
    rest = b"?" * 50 + damaged_first if last.startswith("a copy") else damaged_second + first + b"?" * 50
    segment.write_bytes(data[:second] + rest)
    found = read_all(directory)
    assert found.payloads == [b"first" * 20]
    (damage,) = found.damages
    assert (damage.reason, damage.frames, damage.records, damage.bytes) == ("torn", None, None, len(rest))


def test_a_segment_overwritten_with_another_is_missing(tmp_path: Path) -> None:
    writer = open_writer(tmp_path, segment_bytes=300)
    for i in range(4):
        writer.append(BATCH, bytes([i]) * 200, count=10)
    writer.close()
    directory = writer.directory
    shutil.copyfile(directory / segment_name(1), directory / segment_name(2))
    found = read_all(directory)
    assert [frame.payload[0] for frame in found.frames] == [0, 1, 3]
    (damage,) = found.damages
    assert (damage.reason, damage.frames, damage.records) == ("missing", 2, 10)


def test_a_frame_is_found_wherever_it_begins(tmp_path: Path) -> None:
    """Behind a damaged one, at every place about the end of what is read at once."""
    at_once = 262_144
    for size in range(at_once - 2 * FRAME_HEAD_BYTES - 5, at_once - FRAME_HEAD_BYTES + 5):
        directory = batches(tmp_path / str(size), [bytes(size), b"second"])
        change(directory / segment_name(0), HEADER_BYTES, b"?")
        found = read_all(directory)
        assert found.payloads == [b"second"] and [one.records for one in found.damages] == [10]
        shutil.rmtree(tmp_path / str(size))


def test_a_damaged_header_costs_no_frame(tmp_path: Path) -> None:
    directory = batches(tmp_path, [b"first", b"second"])
    change(directory / segment_name(0), 20, b"????")
    found = read_all(directory)
    (damage,) = found.damages
    assert (damage.reason, damage.frames, damage.records, damage.bytes) == ("damaged", 0, 0, HEADER_BYTES)
    assert found.payloads == [b"first", b"second"]


def test_a_flipped_format_version_is_damage_and_no_newer_format(tmp_path: Path) -> None:
    directory = batches(tmp_path, [b"first"])
    change(directory / segment_name(0), 7, b"\x03")
    assert read_all(directory).payloads == [b"first"]


def test_a_payload_that_looks_like_frames_of_another_journal_is_no_frame(tmp_path: Path) -> None:
    other = batches(tmp_path / "other", [b"forged"] * 5) / segment_name(0)
    forged = other.read_bytes()[HEADER_BYTES:]
    directory = batches(tmp_path, [b"first", forged, b"third"])
    segment = directory / segment_name(0)
    change(segment, place_of(forged, segment) - 3, b"???")
    found = read_all(directory)
    assert found.payloads == [b"first", b"third"]
    assert [damage.records for damage in found.damages] == [10]


def test_a_zeroed_end_of_an_orphan_is_torn(tmp_path: Path) -> None:
    directory = batches(tmp_path, [b"first", b"second"], closed=False)
    with (directory / segment_name(0)).open("ab") as file:
        file.write(bytes(5000))
    (damage,) = read_all(directory).damages
    assert (damage.reason, damage.frames, damage.records, damage.bytes) == ("torn", None, None, 5000)


def test_a_damaged_gap_frame_of_an_orphan_is_found_in_the_reserve(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "journal")
    writer.shed([entry(5)])
    writer.tick()
    writer.append(BATCH, b"x", count=1)
    directory = copied(writer.directory, tmp_path / "orphan")
    change(directory / segment_name(0), HEADER_BYTES + FRAME_HEAD_BYTES, b"?")
    found = read_all(directory)
    assert [(frame.kind, frame.offset) for frame in found.frames][1:] == [(GAP, -1)]
    assert [gap.entries[0].records for gap in found.gaps] == [5]


@pytest.mark.alone
@pytest.mark.parametrize("closed", [True, False])
def test_time_grows_with_the_size_of_a_damaged_file_and_no_faster(tmp_path: Path, closed: bool) -> None:
    """A payload of nothing but markers behind a head that is gone: every fourth byte could begin a frame."""
    took = []
    for megabytes in (0.25, 1):
        payload = MARKER * int(megabytes * MIB / 4)
        directory = batches(tmp_path / str(megabytes), [b"first", payload, b"last"], closed=closed)
        change(directory / segment_name(0), HEADER_BYTES + FRAME_HEAD_BYTES + 5, b"????")
        begun = time.perf_counter()
        assert read_all(directory).payloads == [b"first", b"last"]
        took.append(time.perf_counter() - begun)
        shutil.rmtree(tmp_path / str(megabytes))
    print(f"0.25 MiB of markers: {took[0] * 1000:.0f} ms; 1 MiB: {took[1] * 1000:.0f} ms")  # noqa: T201
    assert took[1] < 10 * took[0] + 0.5


@pytest.mark.alone
def test_many_holes_take_no_longer_than_the_file(tmp_path: Path) -> None:
    """Every other frame is cut out without a trace: each hole looks like a frame that could stand elsewhere."""
    directory = batches(tmp_path, [i.to_bytes(4, "big") for i in range(10_000)])
    segment = directory / segment_name(0)
    data, size = segment.read_bytes(), FRAME_HEAD_BYTES + 4
    kept = [data[at : at + size] for at in range(HEADER_BYTES, len(data), 2 * size)]
    segment.write_bytes(data[:HEADER_BYTES] + b"".join(kept))
    begun = time.perf_counter()
    found = read_all(directory)
    took = time.perf_counter() - begun
    assert found.records == sum(damage.records or 0 for damage in found.damages) == 50_000
    assert took < 5


def at(*seqs: int) -> list[Found]:
    from hoverboard.journal.format import FrameHead

    return [Found(i, i + 1, FrameHead(1, seq, 0, 0, 2, 0)) for i, seq in enumerate(seqs)]


@pytest.mark.parametrize(
    "seqs, expected, passed",
    [
        ((), 0, set()),
        ((3, 4, 5), 3, set()),
        ((7, 9, 12), 3, set()),
        ((6, 7, 3, 4, 5, 6, 7), 3, {0, 1}),
        ((3, 4, 3, 4, 5), 5, set()),
        ((9, 3, 4), 3, {0}),
        ((3, 9, 4, 5), 3, {1}),
        ((4, 4, 4), 4, {0, 1}),
    ],
)
def test_as_few_frames_as_possible_are_passed_over(seqs: tuple[int, ...], expected: int, passed: set[int]) -> None:
    assert out_of_place(at(*seqs), expected) == passed


def test_a_position_behind_the_end_of_a_file_reads_on_with_the_next(tmp_path: Path) -> None:
    directory = batches(tmp_path, [b"first", b"second"])
    found = read_on(directory, Everything(end=Position(0, 10_000, 3, 20)))
    assert (found.frames, found.damages, found.state) == ([], [], "finished")
