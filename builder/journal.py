"""The journal: what a verb is about to do is on the disk before it does it, so that whoever comes next can finish it.

One small file, replaced whole at every step: at most one open entry, and the last closed ones with their results, so
that a claim whose id the host has closed replays its verdict and changes nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from builder.host import Host
from builder.modules import staged_from_json, staged_to_json
from schema.facts import Staged
from schema.names import STATE_DIRECTORY
from schema.transaction import Result

JOURNAL: Final = f"{STATE_DIRECTORY}/journal.json"
CLOSED_LIMIT: Final = 10


class Step(StrEnum):
    """What the entry's author was about to do."""

    UNLOADING = "unloading"  # the old module serves, or is gone already
    LOADING = "loading"  # none is loaded, or the target
    FALLING_BACK = "falling-back"  # the target failed: the previous module is to be live again


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An open swap.

    Attributes:
        boot_id: boot in which it was opened.
        target, fallback: modules to load, and to return to (None: nothing was loaded before).
        parameters, fallback_parameters: what each is loaded with.
        cards: PCI addresses that were served before; each must be served afterwards.
        unloaded_at: POSIX seconds just before the unload, for the outage; None when nothing was loaded.
        reason, message: why we are falling back.
    """

    verb: str
    id: str
    boot_id: str
    step: Step
    target: Staged
    fallback: Staged | None
    parameters: Mapping[str, str]
    fallback_parameters: Mapping[str, str]
    cards: tuple[str, ...]
    unloaded_at: float | None = None
    reason: str | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """How a transaction ended; `at` is RFC 3339, `boot_id` the boot in which it did."""

    id: str
    at: str
    result: Result
    changed: bool
    version: str | None = None
    reason: str | None = None
    message: str = ""
    outage_s: float | None = None
    boot_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """`closed` is newest first."""

    open: Entry | None = None
    closed: tuple[Closed, ...] = ()

    def result_of(self, transaction_id: str) -> Closed | None:
        return next((entry for entry in self.closed if entry.id == transaction_id), None)


def read_journal(host: Host) -> Journal:
    """An absent journal is an empty one.

    Raises:
        KeyError, TypeError, ValueError: the file is not ours; nothing may be done on this host until a person looked.
    """
    text = host.text(JOURNAL)
    if not text:
        return Journal()
    data = json.loads(text)
    return Journal(
        open=_entry_from_json(data["open"]) if data["open"] else None,
        closed=tuple(_closed_from_json(entry) for entry in data["closed"]),
    )


def open_entry(host: Host, entry: Entry) -> None:
    """Write the intent, or the next step of it."""
    _write(host, replace(read_journal(host), open=entry))


def close_entry(host: Host, closed: Closed) -> None:
    """The one moment at which a transaction ends on this host."""
    kept = tuple(entry for entry in read_journal(host).closed if entry.id != closed.id)
    _write(host, Journal(open=None, closed=(closed, *kept)[:CLOSED_LIMIT]))


def _write(host: Host, journal: Journal) -> None:
    data = {
        "open": _entry_to_json(journal.open) if journal.open else None,
        "closed": [_closed_to_json(entry) for entry in journal.closed],
    }
    host.write(JOURNAL, json.dumps(data, indent=1).encode())


def _entry_to_json(entry: Entry) -> dict[str, Any]:
    return {
        "verb": entry.verb,
        "id": entry.id,
        "bootID": entry.boot_id,
        "step": str(entry.step),
        "target": staged_to_json(entry.target),
        "fallback": staged_to_json(entry.fallback) if entry.fallback else None,
        "parameters": dict(entry.parameters),
        "fallbackParameters": dict(entry.fallback_parameters),
        "cards": list(entry.cards),
        "unloadedAt": entry.unloaded_at,
        "reason": entry.reason,
        "message": entry.message,
    }


def _entry_from_json(data: dict[str, Any]) -> Entry:
    return Entry(
        verb=data["verb"],
        id=data["id"],
        boot_id=data["bootID"],
        step=Step(data["step"]),
        target=staged_from_json(data["target"]),
        fallback=staged_from_json(data["fallback"]) if data["fallback"] else None,
        parameters=data["parameters"],
        fallback_parameters=data["fallbackParameters"],
        cards=tuple(data["cards"]),
        unloaded_at=data["unloadedAt"],
        reason=data["reason"],
        message=data["message"],
    )


def _closed_to_json(entry: Closed) -> dict[str, Any]:
    return {
        "id": entry.id,
        "at": entry.at,
        "result": str(entry.result),
        "changed": entry.changed,
        "version": entry.version,
        "reason": entry.reason,
        "message": entry.message,
        "outage_s": entry.outage_s,
        "boot_id": entry.boot_id,
    }


def _closed_from_json(data: dict[str, Any]) -> Closed:
    return Closed(**{**data, "result": Result(data["result"])})
