"""What a node carries while it is worked on, and what it remembers afterwards.

The protocol of record, step by step with preconditions and proof, is docs/node-transaction.md. All of these are JSON in
node annotations: `txn` and `history` written by the operator, `claim` by the builder.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self

from schema.clock import format_rfc3339, seconds
from schema.target import Target

HISTORY_TARGETS = 10  # entries of Targets reached that a node remembers


class Phase(StrEnum):
    """The three stored phases; every other state is a function of record, claim, pods and facts."""

    RESERVED = "Reserved"
    CORDONED = "Cordoned"
    PERMITTED = "Permitted"


class ClaimState(StrEnum):
    BEGUN = "begun"
    DONE = "done"


class Result(StrEnum):
    """How an attempt ended, as the builder's verdict and the history say it."""

    OK = "ok"  # the target is live and verified
    ROLLED_BACK = "rolled-back"  # the previous module is live again
    REBOOT_REQUIRED = "reboot-required"  # neither could be loaded; the node stays cordoned
    REFUSED = "refused"  # a precondition failed before anything changed
    FAILED = "failed"  # a step that changes nothing on the host failed (build, fetch, preflight)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Annotation `txn`: this node is ours to work on.

    Attributes:
        id: `transaction_id` of node UID, target and attempt; 16 hex digits.
        cr: name of the ttdp on whose behalf.
        since: when the present phase began, RFC 3339.
        reserved: when the record was written first, RFC 3339.
        boot_id: boot that the permit is for; None before `Permitted`.
        initial: value of each gate label before we closed it (None: it was absent).
    """

    id: str
    cr: str
    plan: str
    from_: Target | None
    to: Target
    phase: Phase
    since: str
    reserved: str
    boot_id: str | None = None
    initial: tuple[tuple[str, str | None], ...] = ()

    def to_json(self) -> dict[str, Any]:
        data: dict[str, Any] = {
            "id": self.id,
            "cr": self.cr,
            "plan": self.plan,
            "from": self.from_.to_json() if self.from_ else None,
            "to": self.to.to_json(),
            "phase": str(self.phase),
            "since": self.since,
            "reserved": self.reserved,
            "initial": dict(self.initial),
        }
        if self.boot_id is not None:
            data["bootID"] = self.boot_id
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            id=data["id"],
            cr=data["cr"],
            plan=data["plan"],
            from_=Target.from_json(data["from"]) if data["from"] else None,
            to=Target.from_json(data["to"]),
            phase=Phase(data["phase"]),
            since=data["since"],
            reserved=data["reserved"],
            boot_id=data.get("bootID"),
            initial=tuple(sorted(data["initial"].items())),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Annotation `claim`: the builder's point of no return, and its answer.

    `result`, `reason` and `outage_s` (seconds without a module) are set once `state` is done.
    """

    id: str
    state: ClaimState
    result: Result | None = None
    reason: str | None = None
    outage_s: float | None = None

    def to_json(self) -> dict[str, Any]:
        pairs = {
            "id": self.id,
            "state": str(self.state),
            "result": str(self.result) if self.result else None,
            "reason": self.reason,
            "outage_s": self.outage_s,
        }
        return {key: value for key, value in pairs.items() if value is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            id=data["id"],
            state=ClaimState(data["state"]),
            result=Result(data["result"]) if "result" in data else None,
            reason=data.get("reason"),
            outage_s=data.get("outage_s"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One entry of the history: a Target reached, or the latest attempt.

    `not_before` (RFC 3339) is the back-off after a failure; `reason` a value of `schema.states.Reason`; `first` when the
    machine first had this Target, where that was before this attempt.
    """

    at: str
    plan: str
    from_: Target | None
    to: Target
    result: Result
    attempts: int = 1
    first: str | None = None
    not_before: str | None = None
    reason: str | None = None
    outage_s: float | None = None

    def to_json(self) -> dict[str, Any]:
        pairs = {
            "at": self.at,
            "plan": self.plan,
            "from": self.from_.to_json() if self.from_ else None,
            "to": self.to.to_json(),
            "result": str(self.result),
            "attempts": self.attempts,
            "first": self.first,
            "notBefore": self.not_before,
            "reason": self.reason,
            "outage_s": self.outage_s,
        }
        return {key: value for key, value in pairs.items() if value is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            at=data["at"],
            plan=data["plan"],
            from_=Target.from_json(data["from"]) if data.get("from") else None,
            to=Target.from_json(data["to"]),
            result=Result(data["result"]),
            attempts=data.get("attempts", 1),
            first=data.get("first"),
            not_before=data.get("notBefore"),
            reason=data.get("reason"),
            outage_s=data.get("outage_s"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Annotation `history`: `reached` newest first (at most 10), and the latest attempt whatever its result.

    `serial` counts the reservations of this node; it makes transaction ids unique, also when a Target comes back.
    """

    reached: tuple[Attempt, ...] = ()
    latest: Attempt | None = None
    serial: int = 0

    def reaching(self, entry: Attempt) -> Self:
        """This, and one more Target reached: newest first, one entry a Target, which keeps when it was first had."""
        first = self.first_had(entry.to)
        entry = replace(entry, first=None if first is None else format_rfc3339(first))
        older = tuple(reached for reached in self.reached if not reached.to.same_module(entry.to))
        return replace(self, reached=(entry, *older)[:HISTORY_TARGETS], latest=entry)

    def first_had(self, target: Target) -> float | None:
        """POSIX seconds when the machine first had a Target, None if never: the order that tells a revert (ADR 0003)."""
        moments = [seconds(entry.first or entry.at) for entry in self.reached if entry.to.same_module(target)]
        moments += [  # it ran this until it reached that
            seconds(entry.at) - 1
            for entry in self.reached
            if entry.from_ is not None and entry.from_.same_module(target)
        ]
        return min(moments, default=None)

    def to_json(self) -> dict[str, Any]:
        return {
            "reached": [entry.to_json() for entry in self.reached],
            "latest": self.latest.to_json() if self.latest else None,
            "serial": self.serial,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            reached=tuple(Attempt.from_json(entry) for entry in data.get("reached", ())),
            latest=Attempt.from_json(data["latest"]) if data.get("latest") else None,
            serial=data.get("serial", 0),
        )


def transaction_id(node_uid: str, target: Target, attempt: int) -> str:
    """Identity of one attempt: 16 hex digits, of which the first four are its serial number on the node.

    Args:
        node_uid: of the Node object; a node that is created again is another node.
        target: what it is to be brought to.
        attempt: `History.serial` of the reservation. A host never sees an id twice, so a closed id is never new work.
    """
    text = json.dumps([node_uid, target.digest, attempt])
    return f"{attempt & 0xFFFF:04x}{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def transaction_serial(txn_id: str) -> int:
    """The serial number in an id; 0 if it is none of ours."""
    try:
        return int(txn_id[:4], 16)
    except ValueError:
        return 0
