"""Documentation pages as scripts: their commands run in order, and what they print is held against what the page shows.

In a ```console block a line that begins with `$ ` is a command, gone on with while lines end in a backslash, or a
quote or a here-document is open; what follows, up to the next command, is what it printed. A line `...` stands for any lines.
A block that opens with a file's name after its language, as ```python train.py does, is written to that file.
After a line `<!-- figures differ -->` a block's output is held to its words: figures, times and where lines break may differ.

`python -m tests.integration.documents PAGE...` writes into the pages what the commands print now.
"""

from __future__ import annotations

import json
import math
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.running import HOVERBOARD, ROOT, environment, free_port, proofs_kept

VOLATILE = {
    "sample_id",
    "request_id",
    "queue_ms",
    "infer_ms",
    "batch",
    "created",
    "seconds",
    "rows_per_s",
    "retry_after_ms",
    "load_ms",
    "memory_bytes",
    "executor",
    "buckets",
    "software",
    "weights_sha256",
}
"""JSON members that may hold any value of their type."""

_SERVE = re.compile(r"(?:make serve|hoverboard serve)\b(.*)")
_FIGURES_DIFFER = "<!-- figures differ -->"
_TIME = re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d)?(?: UTC|Z)?)?")
_FIGURE = re.compile(r"\d[\d,.]*%?")
_FILE = re.compile(r"```[a-z]+ (\S+)")
_HEREDOC = re.compile(r"<<'?(\w+)'?")
_SLOW_STEP = re.compile(
    r"^(?:Reading|The incumbent|The candidate|Golden|Comparing|Calibration|Trial|Writing)\b.*(?: \.\.\.|: \d+ s)\n",
    re.MULTILINE,
)
"""What `publish` and `replay` say of a step that is slow, as any may be on a machine that is busy."""
_TENSORFLOW = re.compile(
    r"^(?:WARNING: All log messages before absl|[IWE]0000 |To enable the following instr).*\n", re.MULTILINE
)
"""What TensorFlow says of itself in a script that imports it."""
_BLOCKS = "█▏▎▍▌▋▊▉"


@dataclass(slots=True)
class Command:
    """One command of a page.

    Attributes:
        line: where it begins, counted from 1.
        text: the command, its continuation lines included.
        first, last: the lines after it that show its output, as a slice of the page's lines.
        shown: those lines.
        figures: whether its figures are held against what is printed.
    """

    line: int
    text: str
    first: int
    last: int
    shown: list[str]
    figures: bool = True


def commands(page: Path) -> list[Command]:
    """The commands of a page, in order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    found: list[Command] = []
    inside, number, figures = False, 0, True
    while number < len(lines):
        line = lines[number]
        if file := _FILE.fullmatch(line):
            end = lines.index("```", number)
            body = "\n".join(lines[number + 1 : end])
            found.append(Command(number + 1, f"cat > {file[1]} <<'END OF FILE'\n{body}\nEND OF FILE", end, end, []))
            number = end
        elif line.startswith("```"):
            inside = line == "```console"
            figures = lines[number - 1] != _FIGURES_DIFFER
        elif inside and line.startswith("$ "):
            end = _end_of_command(lines, number)
            text = "\n".join([line[2:], *lines[number + 1 : end]])
            found.append(Command(number + 1, text, end, end, [], figures))
            number = end
            continue
        elif inside:
            assert found, f"{page}:{number + 1}: output without a command"
            found[-1].shown.append(line)
            found[-1].last = number + 1
        number += 1
    return found


def _end_of_command(lines: Sequence[str], number: int) -> int:
    heredoc = _HEREDOC.search(lines[number])
    if heredoc:
        return lines.index(heredoc[1], number) + 1
    end = number + 1
    while not _is_whole("\n".join(lines[number:end])):
        end += 1
    return end


def _is_whole(text: str) -> bool:
    """Whether a command ends here: no quote is open, and no backslash asks for the next line."""
    try:
        shlex.split(text)
    except ValueError:
        return False
    return not text.endswith("\\")


@dataclass
class Session:
    """Runs a page's commands in a folder that stands for the reader's clone: with the examples, the shipped models that the page
    names, and the settings of tools, which would change what a command does there.

    Attributes:
        folder: the working directory; what a page puts beside the clone lies beside it.
        ports: port that pages name -> free port that stands for it.
    """

    folder: Path
    ports: dict[str, str] = field(default_factory=dict)
    service: subprocess.Popen[bytes] | None = None

    def run(self, command: Command) -> tuple[int, str]:
        """The exit status of a command and what it printed."""
        serve = _SERVE.fullmatch(command.text)
        if serve:
            return 0, self._named(self._serve(serve[1]))
        status, printed = self._bash(self._ported(command.text))
        return status, self._named(printed)

    def _ported(self, text: str) -> str:
        return re.sub(r"\b(8080|8081|9000|9001)\b", lambda match: self.ports[match[0]], text)

    def _named(self, text: str) -> str:
        for name, port in self.ports.items():
            text = text.replace(port, name)
        return text

    @property
    def environment(self) -> dict[str, str]:
        variables = {
            "PATH": f"{self.folder / '.venv/bin'}:{os.environ['PATH']}",
            "HOVERBOARD_PORT": self.ports["8080"],
            "HOVERBOARD_ADMIN_PORT": self.ports["8081"],
            "COLUMNS": "100",
            "TERM": "dumb",
            "NO_COLOR": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # a reader has pytest alone, without the plugins of these tests
        }
        return environment() | variables

    def _bash(self, text: str) -> tuple[int, str]:
        controller, terminal = pty.openpty()
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                ["bash", "-o", "pipefail", "-c", text],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=terminal,
                stderr=errors,
            )
            os.close(terminal)
            reader = _Reader(controller)
            try:
                status = process.wait(timeout=120)
            finally:
                process.kill()
            printed = reader.text()
            errors.seek(0)
            return status, printed + _TENSORFLOW.sub("", _SLOW_STEP.sub("", errors.read().decode()))

    def _serve(self, flags: str) -> str:
        self.stop()
        controller, terminal = pty.openpty()
        with (self.folder / "service.log").open("ab") as log:
            self.service = subprocess.Popen(
                ["bash", "-c", self._ported(f"exec hoverboard serve {flags}")],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=terminal,
                stderr=log,
            )
        os.close(terminal)
        reader = _Reader(controller)
        until = time.monotonic() + 120
        while "stops." not in reader.text(wait=False):  # the banner's last words
            assert self.service.poll() is None, (self.folder / "service.log").read_text()
            assert time.monotonic() < until, "the service did not become ready"
            time.sleep(0.05)
        return reader.text(wait=False)

    def stop(self) -> None:
        """End the service, which must drain cleanly."""
        if self.service is None:
            return
        self.service.send_signal(signal.SIGTERM)
        try:
            assert self.service.wait(60) == 0, (self.folder / "service.log").read_text()
        finally:
            self.service.kill()
            self.service = None


class _Reader:
    """Reads a terminal to its end, in a thread of its own."""

    def __init__(self, controller: int) -> None:
        self._controller = controller
        self._read = bytearray()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            while chunk := os.read(self._controller, 65536):
                self._read += chunk
        except OSError:  # the other end is closed
            pass
        os.close(self._controller)

    def text(self, *, wait: bool = True) -> str:
        if wait:
            self._thread.join(10)
        return bytes(self._read).decode(errors="replace").replace("\r\n", "\n")


@contextmanager
def session(page: Path, folder: Path) -> Iterator[Session]:
    """A session for a page in a new folder `clone` of an empty one."""
    folder = folder / "clone"
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "models").mkdir()
    text = page.read_text(encoding="utf-8")
    for model in (ROOT / "models").iterdir():
        # Each start of the service loads and warms every model there is: seconds for one that the page does not name.
        if re.search(rf"\b{model.name}\b", text):
            shutil.copytree(model, folder / "models" / model.name)
    _shims(folder / ".venv/bin")
    found = Session(folder, {name: str(free_port()) for name in ("8080", "8081", "9000", "9001")})
    with proofs_kept(folder / "data"):
        try:
            yield found
        finally:
            found.stop()


def _shims(folder: Path) -> None:
    """`hoverboard` and `python3` as this test's own interpreter runs them, and the script that puts both on the PATH."""
    folder.mkdir(parents=True)
    (folder / "activate").touch()
    for name, words in (("hoverboard", HOVERBOARD), ("python3", (sys.executable,)), ("python", (sys.executable,))):
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec {" ".join(words)} "$@"\n')
        path.chmod(0o755)


def difference(shown: Sequence[str], printed: str, *, figures: bool = True) -> str | None:
    """What a page shows that was not printed, or the other way round; None where they agree in all that is stable."""
    expected = "\n".join(shown).strip()
    if not expected:
        return None
    if not figures:
        return _words_difference(shown, printed)
    try:
        return json_difference(json.loads(expected), json.loads(printed))
    except ValueError:
        return _line_difference(expected.splitlines(), printed.strip().splitlines())


def json_difference(shown: Any, got: Any, place: str = "") -> str | None:
    """The first place where two JSON values differ in type, members or stable values."""
    if type(shown) is not type(got) and not {type(shown), type(got)} <= {int, float}:
        return f"{place}: shown {shown!r}, got {got!r}"
    if isinstance(shown, dict):
        if shown.keys() != got.keys():
            return f"{place}: shown members {list(shown)}, got {list(got)}"
        stable = [name for name in shown if name not in VOLATILE]
        found = (json_difference(shown[name], got[name], f"{place}/{name}") for name in stable)
        return next(filter(None, found), None)
    if isinstance(shown, list):
        if len(shown) != len(got):
            return f"{place}: shown {len(shown)} elements, got {len(got)}"
        pairs = enumerate(zip(shown, got, strict=True))
        return next(filter(None, (json_difference(a, b, f"{place}/{index}") for index, (a, b) in pairs)), None)
    if isinstance(shown, float) and isinstance(got, int | float):
        same = math.isclose(shown, got, rel_tol=0.02, abs_tol=0.005)
    else:
        same = shown == got
    return None if same else f"{place}: shown {shown!r}, got {got!r}"


def _line_difference(shown: Sequence[str], got: Sequence[str]) -> str | None:
    at = 0
    anything = False
    for line in shown:
        if line.strip() == "...":
            anything = True
            continue
        rest = range(at, len(got)) if anything else range(at, min(at + 1, len(got)))
        match = next((number for number in rest if _same_line(line, got[number])), None)
        if match is None:
            return f"shown {line!r}, got {list(got[at : at + 3])}"
        at, anything = match + 1, False
    return None if anything or at == len(got) else f"printed, but not shown: {list(got[at : at + 3])}"


def _words_difference(shown: Sequence[str], printed: str) -> str | None:
    """The same for words alone, whatever the figures are and wherever lines break."""
    words = " ".join(shown_words(printed.splitlines()))
    parts: list[list[str]] = [[]]
    for line in shown:
        parts.append([]) if line.strip() == "..." else parts[-1].append(line)
    wanted = [" ".join(shown_words(part)) for part in parts]
    pattern = r"(?: .*)? ".join(re.escape(part) for part in wanted if part)
    pattern = ("" if wanted[0] else ".*") + pattern + ("" if wanted[-1] else ".*")
    if re.fullmatch(pattern, words):
        return None
    missing = next((part for part in wanted if part not in words), "its parts in another order, or more than it shows")
    return f"shown {missing!r}, got {words!r}"


def shown_words(lines: Sequence[str]) -> list[str]:
    """The words of some lines with a sign for each time, id and figure, without bars and the backslashes that join lines."""
    text = re.sub(f"[{_BLOCKS}─]+", " ", "\n".join(line.rstrip().removesuffix("\\") for line in lines))
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "<uuid>", " ".join(text.split()))
    return _FIGURE.sub("<figure>", _TIME.sub("<time>", text)).split()


def _same_line(shown: str, got: str) -> bool:
    try:
        return json_difference(json.loads(shown), json.loads(got)) is None
    except ValueError:
        return _stable(shown) == _stable(got)


def _stable(line: str) -> str:
    """A line without what changes from run to run: numbers with a fraction, times, bars, widths."""
    line = re.sub(f"[{_BLOCKS}]+", "", line)
    line = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "<uuid>", line)
    line = re.sub(r"\d{4}-\d\d-\d\d( \d\d:\d\d(:\d\d)?)?|\d\d-\d\d \d\d:\d\d", "<time>", line)
    line = re.sub(r"\d[\d,]*\.\d+(e[+-]?\d+)?", "<number>", line)
    line = re.sub(r"\d[\d,]* rows/s", "<number> rows/s", line)
    return re.sub(r"[\s─]+", " ", line).strip()


def update(page: Path) -> None:
    """Write what the commands of a page print now into it, where it differs and no `...` stands for a part of it."""
    lines = page.read_text(encoding="utf-8").splitlines()
    replaced: list[tuple[Command, list[str]]] = []
    with tempfile.TemporaryDirectory() as folder, session(page, Path(folder)) as running:
        for command in commands(page):
            status, printed = running.run(command)
            if command.shown and difference(command.shown, printed, figures=command.figures) is None:
                continue
            sys.stderr.write(f"{page}:{command.line}: exit {status}: {command.text.splitlines()[0]}\n")
            if "..." in command.shown:
                sys.stderr.write(f"  shown in part, not replaced; printed:\n{printed}\n")
            else:
                replaced.append((command, [line.rstrip() for line in printed.strip("\n").splitlines()]))
    for command, printed_lines in reversed(replaced):
        lines[command.first : command.last] = printed_lines
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        update(Path(name))
