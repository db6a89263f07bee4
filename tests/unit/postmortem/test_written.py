from __future__ import annotations

import resource
from pathlib import Path

import pytest

from hoverboard.errors import ConfigError
from hoverboard.postmortem.written import write_page


def test_a_page_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    write_page(page, "before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(ConfigError, match=r"page.html could not be written: File too large. Make room there"):
            write_page(page, "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert page.read_text() == "before" and list(tmp_path.iterdir()) == [page]
    assert page.stat().st_mode & 0o777 == 0o644


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "page.html")
    write_page(tmp_path / "link", "page")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "page.html").read_text() == "page"


def test_a_page_that_cannot_be_written_is_named_as_it_was_given(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        write_page(tmp_path / "none" / "page.html", "page")
    assert raised.value.filename == str(tmp_path / "none" / "page.html")
