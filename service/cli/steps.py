"""Which step of a long command runs and for how long, on stderr: a live line on a terminal, elsewhere a line for each slow step."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

import click

from hoverboard.cli.output import console

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

__all__ = ["Report", "steps"]

_SLOW_S: Final = 10.0
"""From here on a step is worth a line that stays: what most commands take for a step is less."""

Report = Callable[[str, float], None]
"""Told the step that runs now, and the share of it that is done, 0 to 1."""


@contextmanager
def steps(words: Mapping[str, str], slow_s: float = _SLOW_S) -> Iterator[Report]:
    """Show steps while they run; one begins when it is first reported, and ends with the next one.

    Args:
        words: step -> what to call it on a screen.
        slow_s: seconds from which on a step's time is told, also where stderr is no terminal.
    """
    terminal = console(stderr=True)
    if not terminal.is_interactive:  # nor one that cannot draw over a line
        with closing(_Lines(words, slow_s)) as lines:
            yield lines
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(20), TimeElapsedColumn())
    with Progress(*columns, console=terminal, transient=True) as bar, closing(_Bar(words, slow_s, bar)) as shown:
        yield shown


class _Steps:
    """Follows which step runs, and since when."""

    def __init__(self, words: Mapping[str, str], slow_s: float) -> None:
        self._words = words
        self._slow_s = slow_s
        self._step: str | None = None
        self._since = 0.0

    def __call__(self, step: str, share: float) -> None:
        if step != self._step:
            self.close()
            self._step, self._since = step, time.monotonic()
            self._begun(self._words.get(step, step))
        self._at(share)

    def close(self) -> None:
        """The step that runs has ended."""
        if self._step is None:
            return
        seconds = time.monotonic() - self._since
        self._ended(f"{self._words.get(self._step, self._step)}: {seconds:.0f} s" if seconds >= self._slow_s else None)
        self._step = None

    def _begun(self, words: str) -> None:
        raise NotImplementedError

    def _at(self, share: float) -> None:
        """How far it is."""

    def _ended(self, took: str | None) -> None:
        raise NotImplementedError


class _Lines(_Steps):
    """Says a step only once it is slow: jobs that nobody watches should be silent where all goes well."""

    _timer: threading.Timer | None = None

    def _begun(self, words: str) -> None:
        self._timer = threading.Timer(self._slow_s, click.echo, [f"{words} ..."], {"err": True})
        # Else a step that fails would keep the command alive until the timer rings.
        self._timer.daemon = True
        self._timer.start()

    def _ended(self, took: str | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if took is not None:
            click.echo(took, err=True)


class _Bar(_Steps):
    """Keeps one live line, and leaves a line for each slow step."""

    _task: TaskID | None = None

    def __init__(self, words: Mapping[str, str], slow_s: float, bar: Progress) -> None:
        super().__init__(words, slow_s)
        self._bar = bar

    def _begun(self, words: str) -> None:
        self._task = self._bar.add_task(words, total=None)

    def _at(self, share: float) -> None:
        if self._task is not None and share:
            self._bar.update(self._task, completed=share, total=1.0)

    def _ended(self, took: str | None) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        if took is not None:
            self._bar.console.print(took)
