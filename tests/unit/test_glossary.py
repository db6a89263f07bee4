"""The glossary is in order, says each word once, and in few sentences."""

from __future__ import annotations

import re
from pathlib import Path

GLOSSARY = (Path(__file__).parents[2] / "docs" / "glossary.md").read_text(encoding="utf-8")


def test_each_part_is_in_the_order_of_the_alphabet_and_no_word_comes_twice() -> None:
    words = []
    for part in GLOSSARY.split("\n## ")[1:]:
        listed = re.findall(r"^\*\*(.+?)\.\*\*", part, re.MULTILINE)
        assert listed == sorted(listed, key=lambda word: word.lower().split(",")[0])
        words += listed
    assert len(words) == len(set(words))


def test_an_entry_has_one_to_four_short_sentences() -> None:
    for word, text in re.findall(r"^\*\*(.+?)\.\*\* (.+?)(?=\n\n|\Z)", GLOSSARY, re.MULTILINE | re.DOTALL):
        plain = re.sub(r"`[^`]*`|\]\([^)]*\)", "", text)
        sentences = re.split(r"(?<=[.:])\s", plain.strip())
        assert len(sentences) <= 4, word
        assert all(len(sentence.split()) <= 40 for sentence in sentences), word
