"""The products data: WordNet 3.0 nouns under 22 kinds of thing one can buy, read from Debian's `wordnet-base`.

An entry is one synset: its names and its gloss. Each entry belongs to the first category in `CATEGORIES` whose
hypernyms are above it, so the order settles the few that have two (WordNet calls a car a wheeled vehicle, and a
wheeled vehicle a container). Nouns near them that are under no category are what the model learns to be unsure about.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

__all__ = [
    "CATEGORIES",
    "LABELS",
    "SEED",
    "SHOP",
    "STYLES",
    "WORDNET",
    "Entry",
    "Parts",
    "examples",
    "load",
    "others",
    "split",
    "texts",
    "without",
]

WORDNET: Final = Path("/usr/share/wordnet/data.noun")
SEED: Final = 20151021
STYLES: Final = ("name and gloss", "name", "gloss")
SHOP: Final = "name and end of gloss"
"""A further style to train on, nearer to a shop's: the gloss without the kind of thing that it begins with."""

CATEGORIES: Final[Mapping[str, tuple[str, ...]]] = {
    "weapon": ("04565375",),
    "vehicle": ("04524313",),
    "plaything": ("03964744",),
    "sports equipment": ("04285146", "03414162"),
    "musical instrument": ("03800933",),
    "jewelry": ("02681518",),
    "clothing": ("03051540", "03380867"),
    "furniture": ("03405725",),
    "kitchenware": ("03621049", "04381994"),
    "appliance": ("02729837",),
    "electronics": ("03278248", "03277771", "03082979"),
    "measuring instrument": ("03733925",),
    "tool": ("04451818",),
    "toiletry": ("04447443",),
    "fabric": ("03309808",),
    "beverage": ("07881800",),
    "produce": ("07705711",),
    "baked goods": ("07622061",),
    "meat and seafood": ("07649854", "07776866"),
    "medicine": ("03740161",),
    "publication": ("06589574", "06410904"),
    "container": ("03094503",),
}
"""Category -> offsets of its hypernyms in WordNet 3.0's data.noun, in order of precedence."""

LABELS: Final = tuple(sorted(CATEGORIES))

NONE: Final = -1
_LINK: Final = re.compile(
    r"\b(that|which|whose|where|with|for|of|used|having|made|consisting|containing|worn|usually|in|to|by|on|from)\b"
)
_NEAR: Final = frozenset({6, 10, 13, 27})
"""Lexicographer files that products come from, by number: artifacts, communication, food and substances."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One synset.

    Attributes:
        names: its lemmas, most frequent first, with spaces for underscores.
        gloss: its definition, without the quoted sentences that show a use.
        label: index into `LABELS`; -1 for what is under no category.
    """

    names: tuple[str, ...]
    gloss: str
    label: int


@dataclass(frozen=True, slots=True)
class Parts:
    """The entries in three parts that share no lemma and no gloss."""

    train: tuple[Entry, ...]
    calibration: tuple[Entry, ...]
    test: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class _Synset:
    file: int
    names: tuple[str, ...]
    gloss: str
    hypernyms: tuple[str, ...]


def load(path: Path = WORDNET) -> tuple[Entry, ...]:
    """Read every entry under `CATEGORIES`, in the file's order.

    Raises:
        FileNotFoundError: `path` is not there (`apt-get install wordnet-base`).
    """
    synsets = dict(_synsets(path))
    category = _category_of(synsets)
    return tuple(
        Entry(synset.names, synset.gloss, LABELS.index(category[offset]))
        for offset, synset in synsets.items()
        if offset in category
    )


def others(known: Sequence[Entry], path: Path = WORDNET) -> tuple[Entry, ...]:
    """Nouns of the files that products come from which are under no category and share no lemma with `known`.

    Raises:
        FileNotFoundError: `path` is not there (`apt-get install wordnet-base`).
    """
    synsets = dict(_synsets(path))
    category = _category_of(synsets)
    taken = {name.lower() for entry in known for name in entry.names}
    return tuple(
        Entry(synset.names, synset.gloss, NONE)
        for offset, synset in synsets.items()
        if synset.file in _NEAR and offset not in category and taken.isdisjoint(map(str.lower, synset.names))
    )


def without(entries: Sequence[Entry], label: str) -> tuple[Entry, ...]:
    """The entries of every other category."""
    return tuple(entry for entry in entries if entry.label != LABELS.index(label))


def split(entries: Sequence[Entry], seed: int = SEED) -> Parts:
    """Part entries 80/10/10 so that no lemma (letter case aside) and no gloss is in two parts."""
    groups = _groups(entries)
    order = np.random.default_rng(seed).permutation(len(groups))
    parts: tuple[list[Entry], ...] = ([], [], [])
    bounds = np.cumsum([0.8 * len(entries), 0.1 * len(entries)])
    placed = 0
    for group in order:
        part = parts[int(np.searchsorted(bounds, placed, side="right"))]
        part.extend(entries[i] for i in groups[group])
        placed += len(groups[group])
    return Parts(*(tuple(part) for part in parts))


def examples(entries: Sequence[Entry]) -> tuple[list[str], list[int]]:
    """The texts to train on and their labels: every name with and without the gloss and its end, and the gloss alone."""
    pairs = [
        (_text(style, name, entry.gloss), entry.label)
        for entry in entries
        for name in entry.names
        for style in (*STYLES[:2], SHOP)
    ]
    pairs += [(entry.gloss, entry.label) for entry in entries]
    return [text for text, _ in pairs], [label for _, label in pairs]


def texts(entries: Sequence[Entry], style: str) -> list[str]:
    """One text an entry, in one of `STYLES` or `SHOP`, with its most frequent name."""
    return [_text(style, entry.names[0], entry.gloss) for entry in entries]


def _text(style: str, name: str, gloss: str) -> str:
    if style == SHOP:
        # A gloss names the kind of thing first ("a chair with ..."); what a shop says of it mostly does not.
        link = _LINK.search(gloss)
        return f"{name}. {gloss[link.start() :]}" if link else name
    return {"name and gloss": f"{name}: {gloss}", "name": name, "gloss": gloss}[style]


def _synsets(path: Path) -> Iterator[tuple[str, _Synset]]:
    """Parse data.noun as wndb(5WN) describes it: `offset file type w_cnt word id ... p_cnt pointer ... | gloss`."""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("  "):
            continue
        head, _, gloss = line.partition("|")
        fields = head.split()
        words = int(fields[3], 16)
        pointers = fields[5 + 2 * words :]
        hypernyms = tuple(pointers[i + 1] for i in range(0, len(pointers), 4) if pointers[i] == "@")
        names = tuple(word.replace("_", " ") for word in fields[4 : 4 + 2 * words : 2])
        yield fields[0], _Synset(int(fields[1]), names, gloss.split('; "')[0].strip(), hypernyms)


def _category_of(synsets: Mapping[str, _Synset]) -> dict[str, str]:
    """Offset -> the first category that it is under."""
    hyponyms: dict[str, list[str]] = defaultdict(list)
    for offset, synset in synsets.items():
        for above in synset.hypernyms:
            hyponyms[above].append(offset)
    category: dict[str, str] = {}
    for name, roots in CATEGORIES.items():
        for offset in _below(roots, hyponyms):
            category.setdefault(offset, name)
    return category


def _below(roots: Sequence[str], hyponyms: Mapping[str, Sequence[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        offset = waiting.pop()
        if offset not in found:
            found.add(offset)
            waiting.extend(hyponyms.get(offset, ()))
    return found


def _groups(entries: Sequence[Entry]) -> list[list[int]]:
    """Indices of entries that hang together by a shared lemma or gloss, by union-find."""
    parent = list(range(len(entries)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[str, int] = {}
    for i, entry in enumerate(entries):
        for key in (*entry.names, entry.gloss):
            parent[root(i)] = root(first.setdefault(key.lower(), i))
    groups: dict[int, list[int]] = defaultdict(list)
    for i in range(len(entries)):
        groups[root(i)].append(i)
    return list(groups.values())
