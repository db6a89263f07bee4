"""Reports made by hand: an incident, a quiet day, and one whose every text was written by somebody who means harm."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hoverboard.postmortem.report import (
    Report,
    ReportedBad,
    ReportedCause,
    ReportedEvent,
    ReportedExample,
    ReportedHistogram,
    ReportedOnset,
    ReportedSlice,
    ReportedTimeline,
    ReportedWho,
)

START = datetime(2026, 11, 29, 14, tzinfo=UTC)
END = START + timedelta(hours=4)
HOSTILE = "\"><script>alert(1)</script><img src=//evil.example/x onerror=alert(1)>'&amp;[a](http://evil.example)`|\x1b[2J\u202e\n"


def incident(text: str = "17") -> Report:
    """Outliers of one customer, whose name, tags, label, texts and version's events are `text`."""
    at = START + timedelta(hours=1)
    row = ReportedExample(
        sample_id="01a22149-f27a-7c38-83ff-9eb489e1f2f0",
        at=at,
        version=3,
        label=text,
        value=None,
        p_value=0.002,
        true_label=text,
        tags={"customer": text, text: 1},
        inputs=text * 30,
    )
    near = ReportedExample(
        sample_id="01a22149-f27a-71b6-af97-a3ed3735e99d",
        at=START,
        version=3,
        label="small",
        value=None,
        p_value=0.5,
        true_label=None,
        tags={"customer": "16"},
        inputs='{"height": 9.5, "width": 8.25}',
        distance=3.25,
    )
    shown = ReportedExample(**{name: getattr(row, name) for name in row.__struct_fields__} | {"neighbours": [near] * 3})
    return Report(
        model="cups",
        about="outliers",
        summary=f"Since 2026-11-29 15:00 UTC 22.0% of the rows of cups are outliers, usually 1.01%; the cause is most likely customer {text}.",
        start=START,
        end=END,
        usual=(START - timedelta(hours=4), START),
        comparison=f"4,000 rows of cups, 2026-11-29 10:00 UTC to 2026-11-29 14:00 UTC, tag.region = {text}",
        changed=True,
        where={"tag.region": text},
        onset=ReportedOnset(
            at=at,
            earliest=at - timedelta(minutes=1),
            latest=at + timedelta(minutes=1),
            end=None,
            log10_bayes=80.4,
            bin_s=60.0,
            events=[ReportedEvent(at, "deployment", "4", text, 0.97)],
        ),
        bad=ReportedBad(1000.0, 950.0, 1050.0, 4545.0, 0.22, 0.0101, 1000),
        who=[ReportedWho("tag customer", text, 1000.0, 990.0, 0.99, 0.98, 0.93)],
        slices=[ReportedSlice({"tag customer": text, "input height": "above 14"}, 1000.0, 990.0, 0.98, 0.9, 41.5, 1e-9)],
        causes=[
            ReportedCause("caller", f"tag customer {text}", 0.9, f"990 of 1,000 bad rows are of {text}", True, "drop its rows"),
            ReportedCause("none", "", 0.1, "nothing stands out", None, "nothing"),
            ReportedCause("schema", "input height", 0.001, "hardly any evidence", None, "turn the inputs back"),
        ],
        timeline=ReportedTimeline(
            60.0,
            [START + timedelta(minutes=minute) for minute in range(-240, 240)],
            [20.0 + minute % 7 for minute in range(480)],
            [float(minute % 100 == 3) if minute < 300 else 4.0 + minute % 3 for minute in range(480)],
            [
                ReportedEvent(at, "deployment", "4", text, 0.97),
                ReportedEvent(at + timedelta(minutes=2), "alarm", text, text, None),
                ReportedEvent(at + timedelta(minutes=90), "death", text, "", 0.0),
            ],
        ),
        histograms=[
            ReportedHistogram("input height", ["below 6", "6 to 8", text, "8 to 14", "above 14"], [0.1, 0.3, 0.0, 0.55, 0.05], [0.01, 0.02, 0.1, 0.0, 0.87]),
            ReportedHistogram(text, [text, "b"], [0.5, 0.5], [1.0, 0.0]),
        ],
        examples={"strangest": [shown] * 3, "typical": [shown] * 3},
        unknown=[f"Not recorded: 3 records ({text}); `hoverboard gaps` says why."],
        next=[
            "hoverboard postmortem cups --where tag.customer=17 --from 2026-11-29T15:00:00Z --to now --data-dir '/srv/the data'",
            "hoverboard issues list cups",
            "hoverboard postmortem cups --html cups.html",
        ],
        sql=dict.fromkeys(("bad: outliers", "rows", "events", "drawn rows", "examples", "gaps"), f"select '{text}';"),
        looked_at=20_000,
        seconds=1.25,
    )  # fmt: skip


def quiet() -> Report:
    """A day of which there is nothing to tell."""
    there = incident()
    told = {name: getattr(there, name) for name in there.__struct_fields__}
    return Report(
        **told
        | {
            "summary": "A quiet time: 45 of 4,545 rows of cups are outliers (0.99%, usually 1.01%).",
            "comparison": "nothing outside of it: one part of the time was compared with another",
            "changed": False,
            "onset": None,
            "bad": ReportedBad(45.0, 45.0, 45.0, 4545.0, 0.0099, 0.0101, 4545),
            "usual": None,
            "where": {},
            "who": [],
            "slices": [],
            "causes": [ReportedCause("none", "", 1.0, "a quiet day", None, "nothing")],
            "examples": {},
            "histograms": [],
            "unknown": [],
            "next": ["hoverboard alarms"],
        }
    )
