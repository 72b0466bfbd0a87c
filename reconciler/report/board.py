"""The demo as people see it: a live table on a terminal, plain lines elsewhere, and the closing tables."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

COLOURS = {"Done": "green", "Failed": "bold red", "Blocked": "red", "Waiting": "dim", "Staging": "cyan"}
WORKING = "yellow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One node as shown now."""

    node: str
    wave: str
    version: str
    state: str
    reason: str
    unavailable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One node in the closing table. `outage_s` is None where nothing was swapped."""

    node: str
    wave: str
    before: str
    after: str
    outage_s: float | None


class Screen:
    """Shows lines as they change."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self._title = ""
        self._shown: dict[str, tuple[str, str, str]] = {}

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(Text(text, style="bold"))

    def show(self, title: str, lines: Sequence[Line], message: str) -> None:
        """The state of everything now."""
        if title != self._title:
            self._title = title
            self.say(f"▶ {title}")
        if self._live:
            self._live.update(Group(_table(lines), Text(message, style="dim")))
        else:
            self._print_changes(lines)

    def _print_changes(self, lines: Iterable[Line]) -> None:
        for line in lines:
            now = (line.version, line.state, line.reason)
            if not line.state:  # between two policies, or before the first: no word from the operator
                continue
            if self._shown.get(line.node) != now:
                self._shown[line.node] = now
                self._console.print(
                    Text(f"  {line.node}  {line.wave:8} {' '.join(filter(None, now))}".rstrip())
                )


def _table(lines: Iterable[Line]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("NODE", "WAVE", "LOADED", "STATE", ""):
        table.add_column(column)
    for line in lines:
        style = COLOURS.get(line.state, WORKING)
        mark = "cordoned" if line.unavailable else ""
        state = " ".join(filter(None, (line.state, line.reason)))
        table.add_row(line.node, line.wave, line.version or "none", Text(state, style=style), mark)
    return table


def changes_table(title: str, changes: Iterable[Change]) -> Table:
    """node, wave, from, to, outage of one commit."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in ("NODE", "WAVE", "FROM", "TO"):
        table.add_column(column)
    table.add_column("OUTAGE", justify="right")
    for change in changes:
        outage = f"{change.outage_s:.2f} s" if change.outage_s is not None else "–"
        table.add_row(change.node, change.wave, change.before or "none", change.after or "none", outage)
    return table
