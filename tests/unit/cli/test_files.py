from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hoverboard.cli.files import read_contract, read_labels, read_request, read_samples
from hoverboard.errors import ConfigError


def file(tmp_path: Path, name: str, content: str) -> Path:
    path = tmp_path / name
    path.write_text(content)
    return path


VECTORS = [[1.0, 2.0], [3.0, 4.0]]
GEMS = [{"carat": 0.5, "cut": "Ideal"}, {"carat": 1.0, "cut": "Fair"}]


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("s.jsonl", "[1.0, 2.0]\n\n[3.0, 4.0]\n", VECTORS),
        ("s.json", "[[1.0, 2.0], [3.0, 4.0]]", VECTORS),
        ("s.json", '{"instances": [[1.0, 2.0], [3.0, 4.0]]}', VECTORS),
        ("s.json", '{"params": {"instances": [[1.0, 2.0], [3.0, 4.0]]}}', VECTORS),
        ("s.csv", "carat,cut\n0.5,Ideal\n1.0,Fair\n", GEMS),
        ("s.csv", 'v\n"[1.0, 2.0]"\n"[3.0, 4.0]"\n', VECTORS),
        ("s.csv", "text\n", []),
        ("s.csv", "carat,cut\n.5,Ideal\n1.,Fair\n", GEMS),
        ("s.jsonl", "\ufeff[1.0, 2.0]\n[3.0, 4.0]\n", VECTORS),
        ("s.json", "\ufeff[[1.0, 2.0], [3.0, 4.0]]", VECTORS),
    ],
)
def test_samples_are_rows_of_bare_values_or_objects(tmp_path: Path, name: str, content: str, expected: Any) -> None:
    assert read_samples(file(tmp_path, name, content)) == expected


def test_samples_come_from_parquet_and_npz_too(tmp_path: Path) -> None:
    pq.write_table(pa.table({"carat": [0.5, 1.0], "cut": ["Ideal", "Fair"]}), tmp_path / "s.parquet")
    assert read_samples(tmp_path / "s.parquet") == GEMS
    np.savez(tmp_path / "s.npz", x=np.array(VECTORS))
    assert read_samples(tmp_path / "s.npz") == VECTORS


def test_no_more_samples_are_read_than_golden_samples_need(tmp_path: Path) -> None:
    assert len(read_samples(file(tmp_path, "s.jsonl", "1\n" * 20_000))) == 10_000
    np.savez(tmp_path / "s.npz", x=np.zeros((20_000, 1)))
    assert len(read_samples(tmp_path / "s.npz")) == 10_000


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("s.txt", "1", "extension must be one of"),
        ("s.jsonl", "1\nx\n", "row 1"),
        ("s.csv", "a,b\n1,2\n3\n", "row 1 .counted from 0.: its cells"),
        ("s.csv", "a,b\n1,2,3\n", "row 0 .counted from 0.: its cells"),
        ("s.json", '{"inputs": {}}', "expected a list of rows"),
        ("s.npz", "no zip", "s.npz"),
        ("s.parquet", "no parquet", "s.parquet"),
    ],
)
def test_samples_that_are_none_are_refused_by_name(tmp_path: Path, name: str, content: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_samples(file(tmp_path, name, content))


@pytest.mark.parametrize("content", ["cat\ndog\n", "  cat \ndog", '["cat", "dog"]', "\ufeffcat\ndog"])
def test_labels_are_lines_or_a_json_list(tmp_path: Path, content: str) -> None:
    assert read_labels(file(tmp_path, "labels.txt", content)) == ["cat", "dog"]


@pytest.mark.parametrize(
    "content, words",
    [
        ("cat\n\ndog", "labels.txt:2: ''"),
        ("\ncat\ndog", "labels.txt:1: ''"),
        ('["cat", 1]', "label 2: 1, expected a name"),
        ("[", "truncated"),
        ("", "holds no label"),
        ("cat\ndog\ncat\n", "labels.txt:3: 'cat' stands there already, as number 1"),
        ("cat\n\ufeffdog\n", r"labels.txt:2: '\\ufeffdog'"),
        ("cat\ndo\x00g\n", r"labels.txt:2: 'do\\x00g'"),
    ],
)
def test_labels_that_are_no_names_or_there_twice_are_refused_with_their_line(
    tmp_path: Path, content: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        read_labels(file(tmp_path, "labels.txt", content))


@pytest.mark.parametrize("name, content", [("c.toml", "[carat]\nmin = 0\n"), ("c.json", '{"carat": {"min": 0}}')])
def test_a_contract_is_toml_or_json(tmp_path: Path, name: str, content: str) -> None:
    assert read_contract(file(tmp_path, name, content)) == {"carat": {"min": 0}}


@pytest.mark.parametrize("content", ["carat = 1\n", "[carat\n"])
def test_a_contract_that_is_no_table_of_tables_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(ConfigError, match=r"c\.toml"):
        read_contract(file(tmp_path, "c.toml", content))


PARAMS = {"model": "other", "instances": [[1, 2]], "top_k": 2}


@pytest.mark.parametrize(
    "text, expected",
    [
        (json.dumps({"jsonrpc": "2.0", "id": 1, "method": "predict", "params": PARAMS}), PARAMS),
        (json.dumps(PARAMS), PARAMS),
        ('{"inputs": {"a": [1]}}', {"inputs": {"a": [1]}}),
        ("[[1, 2], [3, 4]]", {"instances": [[1, 2], [3, 4]]}),
        ('{\n  "carat": 1\n}', {"instances": [{"carat": 1}]}),
        ('"a chair"', {"instances": ["a chair"]}),
        ("[1, 2]\n[3, 4]\n", {"instances": [[1, 2], [3, 4]]}),
        ("\ufeff[1, 2]\n[3, 4]\n", {"instances": [[1, 2], [3, 4]]}),
        ('"a chair"\n"a piano"\n', {"instances": ["a chair", "a piano"]}),
    ],
)
def test_a_request_is_told_from_params_instances_and_lines(text: str, expected: Any) -> None:
    assert read_request(text.encode(), "stdin") == expected


def test_lines_are_instances_whatever_they_look_like_when_said_so() -> None:
    assert read_request(b"[1, 2]\n", "rows.jsonl", lines=True) == {"instances": [[1, 2]]}


@pytest.mark.parametrize("text", ["", " \n", "{", "[1, 2", "nonsense\nmore"])
def test_text_that_holds_no_instance_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="stdin"):
        read_request(text.encode(), "stdin")


@pytest.mark.parametrize(
    "content, lines, advice",
    [
        ("great thing\n", False, '"great thing"'),
        ("great thing\nchair\n", False, '"great thing"'),
        ('5" pipe\n', True, r'"5\" pipe"'),
        ("word " * 100, False, '"' + "word " * 12 + '..."'),
        ("NaN", False, None),
        ("[great thing", False, None),
        ("[1, 2]\nNaN\n", False, None),
        ("1\n2\n", False, None),
    ],
)
def test_plain_text_is_refused_with_how_to_quote_it(content: str, lines: bool, advice: str | None) -> None:
    with pytest.raises(ConfigError) as refused:
        read_request(content.encode(), "stdin", lines=lines)
    assert str(refused.value).partition("; if it is a text, quote it for JSON, one text a line: ")[2] == (advice or "")


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("s.jsonl", b'1\n"\xff"\n', "row 1 .counted from 0.: not UTF-8 .byte 1."),
        ("s.jsonl", b"[NaN]\n", "row 0 .counted from 0.: no JSON: NaN is no JSON: send null"),
        ("s.json", b"[" * 5000, "nested too deeply"),
    ],
)
def test_samples_that_are_no_json_are_refused_with_the_reason(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=words):
        read_samples(tmp_path / name)


def test_a_contract_that_is_no_utf8_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="no UTF-8"):
        read_contract(tmp_path / "c.toml")


def test_a_parquet_sample_that_is_no_utf8_is_refused_by_name(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": pa.array([b"\xff"]).view(pa.string())}), tmp_path / "s.parquet")
    with pytest.raises(ConfigError, match="not UTF-8"):
        read_samples(tmp_path / "s.parquet")
