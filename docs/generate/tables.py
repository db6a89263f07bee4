"""docs/reference/tables.md, from the dump of the schema that tests hold against what the migrations make."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from docs.generate.markdown import table
from hoverboard.cli.gaps import NEXT_STEPS

__all__ = ["page"]


def page(dump: str) -> str:
    """Every table with its columns, keys, indexes and rights.

    Args:
        dump: what pg_dump writes of the schema.
    """
    comments = {
        (kind, place.replace("hoverboard.", "").replace('"', "")): text.replace("''", "'")
        for kind, place, text in re.findall(r"^COMMENT ON (\w+) (.+?) IS '((?:[^']|'')*)';", dump, re.MULTILINE)
    }
    parts = [_relation(name, columns, dump, comments) for name, columns in sorted(_relations(dump).items())]
    functions = [
        [f"`{place.partition('.')[2]}`" if place.startswith("hoverboard.") else f"`{place}`", text]
        for (kind, place), text in comments.items()
        if kind == "FUNCTION"
    ]
    return f"""# Tables

The schema `hoverboard` in Postgres. `hoverboard psql` opens a shell on it; [these questions](../sql.md) show how the tables are joined,
and the [glossary](../glossary.md) has the words.
The role `reader` may read all of it, and `recorder` is what the service writes as.

Partitioned tables have one partition for each day (UTC) of `at`, and a default partition for rows whose clock was implausible or
whose day had no partition yet. Give `at` a range in every query on them.

{"".join(parts)}## Reasons of gaps

What `gaps.reason` may hold, and what to do about it; `hoverboard gaps` lists those of the last days.

{table(["reason", "what to do"], [[f"`{reason}`", text] for reason, text in NEXT_STEPS.items()])}
## Functions

{table(["function", "what it does"], functions)}"""


def _relations(dump: str) -> dict[str, list[tuple[str, str, bool]]]:
    """Tables and views -> columns: name, type, whether null is allowed. Partitions are left out."""
    relations: dict[str, list[tuple[str, str, bool]]] = {}
    for name, body in re.findall(r"^CREATE TABLE hoverboard\.(\w+) \(\n(.*?)^\)", dump, re.MULTILINE | re.DOTALL):
        if not name.endswith("_default"):
            columns = re.findall(r'^    "?([a-z]\w*)"? (.+?)(?: DEFAULT .+?)?( NOT NULL)?,?$', body, re.MULTILINE)
            relations[name] = [(column, kind, not bound) for column, kind, bound in columns]
    for name in re.findall(r"^CREATE VIEW hoverboard\.(\w+) AS", dump, re.MULTILINE):
        columns = re.findall(rf'^COMMENT ON COLUMN hoverboard\.{name}\."?(\w+)"? ', dump, re.MULTILINE)
        relations[name] = [(column, "", True) for column in columns]
    return relations


def _relation(
    name: str, columns: Sequence[tuple[str, str, bool]], dump: str, comments: Mapping[tuple[str, str], str]
) -> str:
    view = ("VIEW", name) in comments
    rows = [
        [f"`{column}`", _short(kind), "yes" if null else "no", comments["COLUMN", f"{name}.{column}"]]
        for column, kind, null in columns
    ]
    if view:
        rows = [[column, text] for column, _, _, text in rows]
    keys = re.findall(
        rf"^ALTER TABLE ONLY hoverboard\.{name}\n    ADD CONSTRAINT \w+ ((?:PRIMARY KEY|UNIQUE|FOREIGN KEY).+);",
        dump,
        re.MULTILINE,
    )
    indexes = re.findall(rf"^CREATE INDEX \w+ ON (?:ONLY )?hoverboard\.{name} USING (.+);", dump, re.MULTILINE)
    grants = re.findall(rf"^GRANT (.+) ON TABLE hoverboard\.{name} TO recorder;", dump, re.MULTILINE)
    partitioned = re.search(rf"^CREATE TABLE hoverboard\.{name} \(\n[^;]*^\)\nPARTITION BY", dump, re.MULTILINE)
    notes = [f"Index: `{_short(one)}`" for one in indexes]
    notes = [f"Key: `{one.replace('hoverboard.', '')}`".replace("PRIMARY KEY", "primary key") for one in keys] + notes
    notes = [_lowered(note) for note in notes]
    notes.append(f"`recorder` may: {', '.join(grants).lower().replace(',', ', ').replace(',  ', ', ')}")
    if partitioned:
        notes.insert(0, "Partitioned by day of `at`")
    header = ["column", "meaning"] if view else ["column", "type", "null", "meaning"]
    listed = "\n".join(f"- {note}" for note in notes)
    return f"## {name}\n\n{comments['VIEW' if view else 'TABLE', name]}\n\n{table(header, rows)}\n{listed}\n\n"


def _short(kind: str) -> str:
    kind = re.sub(r" CONSTRAINT \w+$", "", kind)
    return kind.replace("timestamp with time zone", "timestamptz").replace("double precision", "float8")


def _lowered(note: str) -> str:
    for word in ("PRIMARY KEY", "UNIQUE", "FOREIGN KEY", "REFERENCES", "WHERE", "IS NOT NULL"):
        note = note.replace(word, word.lower())
    return note
