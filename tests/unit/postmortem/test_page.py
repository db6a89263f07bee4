"""The page of a report: what it shows, and that nothing of what was recorded becomes a part of it."""

from __future__ import annotations

import re
from datetime import timedelta
from html.parser import HTMLParser

import msgspec
import pytest

from hoverboard.postmortem.page import render_html
from hoverboard.postmortem.report import Report, ReportedEvent
from tests.unit.postmortem.reports import HOSTILE, START, incident, quiet

VOID = {"meta", "img", "rect", "line", "circle"}


class Page(HTMLParser):
    """Tags with their attributes, whether they nest, and the texts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "title"} & set(self.open[-1:]):
            self.words.append(data)


def shape(report: Report) -> list[tuple[str, list[str]]]:
    return [(tag, sorted(attributes)) for tag, attributes in Page(render_html(report)).tags]


def test_what_was_recorded_adds_no_tag_and_no_attribute() -> None:
    assert shape(incident(HOSTILE)) == shape(incident("x" * len(HOSTILE)))
    text = render_html(incident(HOSTILE))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202e]", text)


@pytest.mark.parametrize("report", [incident(), incident(HOSTILE), quiet()], ids=["incident", "hostile", "quiet"])
def test_it_loads_and_runs_nothing(report: Report) -> None:
    page = Page(render_html(report))
    assert page.open == []
    for tag, attributes in page.tags:
        assert tag not in {"script", "link", "iframe", "object", "a", "form", "base"}
        assert not any(name.startswith("on") or name in ("href", "srcset") for name in attributes)
        assert attributes.get("src", "data:image/png;base64,").startswith("data:image/png;base64,")
    assert "url(" not in render_html(report)
    assert "@import" not in render_html(report)
    policy = next(attributes["content"] for tag, attributes in page.tags if attributes.get("http-equiv"))
    assert policy.startswith("default-src 'none'")


def test_it_is_the_same_for_the_same_report() -> None:
    assert render_html(incident()) == render_html(incident())


def test_it_shows_the_onset_the_events_who_and_what_differs() -> None:
    page = Page(render_html(incident()))
    words = " ".join(page.words)
    drawn = [attributes.get("class", "") for _, attributes in page.tags]
    for kind, count in (("since", 2), ("began", 1), ("level", 1), ("mark", 3), ("event", 3), ("bound", 4)):
        assert drawn.count(kind) == count, kind
    assert "began 15:00" in words
    assert "2026-11-29 16:30 UTC death 17" in words
    assert "The share of an alarm is another one" in words
    assert "above 14: 87.0% of the bad rows, 5.00% of the usual ones" in words
    assert "90% caller tag customer 17" in words
    assert "hardly any evidence" not in words
    assert f"{incident().next[0]}" in words  # whole, to be copied


def test_every_picture_of_numbers_says_in_words_what_it_shows() -> None:
    text = render_html(incident())
    charts = re.findall(r'<svg role="img".*?</svg>', text, re.DOTALL)
    assert len(charts) == 3
    for chart in charts:
        assert re.search(r"<title>\S.*?</title>\s*<desc>\S.*?</desc>", chart, re.DOTALL)
    others = [attributes for tag, attributes in Page(text).tags if tag == "svg" and attributes.get("role") != "img"]
    # One within a chart holds a label, and is cut off at its edge.
    assert all(attributes.get("aria-hidden") == "true" or "y" in attributes for attributes in others)


def test_letters_stand_out_from_what_they_stand_on_in_light_and_in_dark() -> None:
    """WCAG 2.2, 1.4.3: at least 4.5 to 1 for text, and 3 to 1 for what charts are made of (1.4.11)."""
    colours = re.findall(r"--(\w+): (#[0-9a-f]{6})\b", render_html(quiet()))
    half = [name for name, _ in colours].index("ink", 1)
    for scheme in (dict(colours[:half]), dict(colours[half : half + 10])):
        for paper in ("paper", "card"):
            for ink, least in (("ink", 7), ("soft", 4.5), ("bad", 3), ("usual", 3), ("event", 4.5)):
                assert contrast(scheme[ink], scheme[paper]) >= least, (ink, paper)


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_both_ends_of_an_incident_are_told_to_the_second_where_one_has_seconds() -> None:
    report = incident()
    assert report.onset is not None
    for began, ended, told in (
        (8, 0, ("15:00:08", "16:00:00")),
        (0, 7, ("15:00:00", "16:00:07")),
        (0, 0, ("15:00", "16:00")),
    ):
        at = START + timedelta(hours=1)
        onset = msgspec.structs.replace(
            report.onset, at=at + timedelta(seconds=began), end=at + timedelta(hours=1, seconds=ended)
        )
        page = render_html(msgspec.structs.replace(report, onset=onset))
        assert re.findall(r"<dt>(?:since|until)</dt><dd>([^<]*)</dd>", page) == list(told)


def test_marks_of_events_lie_above_the_words_of_the_axis() -> None:
    report = incident()
    events = [ReportedEvent(START, "start", str(number), "", None) for number in range(6)]
    page = render_html(
        msgspec.structs.replace(report, timeline=msgspec.structs.replace(report.timeline, events=events))
    )
    lowest = max(int(y) + int(r) for y, r in re.findall(r'cy="(\d+)" r="(\d+)" class="mark"', page))
    highest = min(int(y) for y in re.findall(r'<text x="0" dx="4" y="(\d+)" class="halo soft">', page))
    assert lowest < highest - 12  # pixels of a letter
