"""The API server's audit log as evidence: what really happened to nodes, in the order in which it was committed.

The order of lines is not the order of commits (2,000 of 2,544 concurrent writes stood out of place), so writes are
sorted by the integer resourceVersion that the server answered with, then replayed. Dry runs, refused requests and
answers that repeat a resourceVersion (nothing changed) are dropped.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from schema.clock import parse_rfc3339

WRITES: Final = frozenset({"create", "update", "patch", "delete"})
_NODES: Final = b'"resource":"nodes"'  # most lines are about something else: skip them unparsed


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeWrite:
    """One committed write to a Node or its status.

    Attributes:
        node: its name.
        version: resourceVersion after it; of a delete, which has none, that of the last write before it.
        at: when the server answered, POSIX seconds.
        verb: create | update | patch | delete.
        subresource: `status`, or empty.
        user: who, as the server authenticated them; `NAME as OTHER` under impersonation.
        manager: `fieldManager` of the request, empty where it had none.
        cordoned: `spec.unschedulable` after it.
        ready: condition Ready is True after it.
    """

    node: str
    version: int
    at: float
    verb: str
    subresource: str
    user: str
    manager: str
    cordoned: bool
    ready: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Cordon:
    """A node was unschedulable from `begin` to `end` (POSIX seconds; None: to the end of the log)."""

    node: str
    begin: float
    by: str
    end: float | None = None
    ended_by: str | None = None


def node_writes(log: Path) -> list[NodeWrite]:
    """Every committed write to a Node or its status, in commit order.

    Raises:
        ValueError: a line that is not the last one is no audit event.
    """
    seen: set[int] = set()
    writes, deletes = [], []
    for event in _events(log):
        if event["verb"] == "delete":
            deletes.append(_write(event, version=0))
        elif (version := _version(event)) and version not in seen:
            seen.add(version)
            writes.append(_write(event, version=version))
    for delete in deletes:
        before = max((write.version for write in writes if write.at <= delete.at), default=0)
        writes.append(replace(delete, version=before))
    return sorted(writes, key=lambda write: (write.version, write.verb == "delete"))


def writes_to_nodes(log: Path, since: float = 0.0) -> list[NodeWrite]:
    """Writes to Nodes themselves that were answered at or after `since`; heartbeats (`/status`) are left out."""
    return [write for write in node_writes(log) if not write.subresource and write.at >= since]


def most_unavailable(log: Path, since: float = 0.0) -> int:
    """The most nodes that were unavailable at once, at or after `since`.

    A node is unavailable while it is cordoned, or not Ready after it had been Ready (one that joins is not missed yet).
    """
    unavailable: set[str] = set()
    joined: set[str] = set()
    most = 0
    begun = False
    for write in node_writes(log):
        if write.at >= since and not begun:
            begun, most = True, len(unavailable)
        _replay(write, unavailable, joined)
        if begun:
            most = max(most, len(unavailable))
    return most if begun else len(unavailable)


def cordons(log: Path) -> dict[str, list[Cordon]]:
    """Node -> its cordons, oldest first, with who began and ended each."""
    found: dict[str, list[Cordon]] = {}
    for write in node_writes(log):
        of_node = found.setdefault(write.node, [])
        open_one = of_node[-1] if of_node and of_node[-1].end is None else None
        cordoned = write.cordoned and write.verb != "delete"
        if cordoned and not open_one:
            of_node.append(Cordon(node=write.node, begin=write.at, by=write.user))
        elif open_one and not cordoned:
            of_node[-1] = replace(open_one, end=write.at, ended_by=write.user)
    return {node: intervals for node, intervals in found.items() if intervals}


def _replay(write: NodeWrite, unavailable: set[str], joined: set[str]) -> None:
    if write.ready:
        joined.add(write.node)
    if write.verb == "delete":
        joined.discard(write.node)
        unavailable.discard(write.node)
    elif write.cordoned or (write.node in joined and not write.ready):
        unavailable.add(write.node)
    else:
        unavailable.discard(write.node)


def _events(log: Path) -> Iterator[Mapping[str, Any]]:
    """Answered, committed writes to nodes and nodes/status."""
    with log.open("rb") as file:
        for number, event in _parsed(file, log):
            reference = event.get("objectRef", {})
            if event.get("stage") != "ResponseComplete" or reference.get("resource") != "nodes":
                continue
            if event["verb"] not in WRITES or reference.get("subresource", "") not in {"", "status"}:
                continue
            if "dryRun" in _query(event) or not 200 <= event["responseStatus"]["code"] < 300:
                continue
            if event["verb"] != "delete" and "responseObject" not in event:
                raise ValueError(
                    f"{log}:{number}: a write to a node without its answer: the audit policy is not ours"
                )
            yield event


def _parsed(lines: Iterable[bytes], log: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    fault: str | None = None
    for number, line in enumerate(lines, 1):
        if fault:
            raise ValueError(fault)
        if _NODES not in line:
            continue
        try:
            yield number, json.loads(line)
        except ValueError as error:
            fault = (
                f"{log}:{number}: {error}"  # forgiven at the very end: the server was killed while it wrote
            )


def _write(event: Mapping[str, Any], *, version: int) -> NodeWrite:
    node = event.get("responseObject") or {}
    if node.get("kind") == "Status":  # the answer to a delete
        node = {}
    reference = event["objectRef"]
    conditions = node.get("status", {}).get("conditions") or ()
    return NodeWrite(
        node=reference.get("name") or node.get("metadata", {}).get("name", ""),
        version=version,
        at=parse_rfc3339(event["stageTimestamp"]),
        verb=event["verb"],
        subresource=reference.get("subresource", ""),
        user=_user(event),
        manager=next(iter(_query(event).get("fieldManager", ())), ""),
        cordoned=bool(node.get("spec", {}).get("unschedulable")),
        ready=any(c["type"] == "Ready" and c["status"] == "True" for c in conditions),
    )


def _user(event: Mapping[str, Any]) -> str:
    user: str = event["user"]["username"]
    other = event.get("impersonatedUser")
    return f"{user} as {other['username']}" if other else user


def _version(event: Mapping[str, Any]) -> int:
    return int(event["responseObject"].get("metadata", {}).get("resourceVersion") or 0)


def _query(event: Mapping[str, Any]) -> dict[str, list[str]]:
    return parse_qs(urlsplit(event["requestURI"]).query)
