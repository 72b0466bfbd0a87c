"""Verdict: the one JSON line in which every builder verb ends (stdout and termination message, under 4,096 bytes)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from schema.transaction import Result

VERDICT_LIMIT_BYTES = 4096  # what a kubelet keeps of a termination message


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a verb did.

    Attributes:
        verb: keep, stage, swap, facts, ...
        id: transaction id, None for verbs that run outside a transaction.
        changed: something on the host changed; a lost verdict counts as True.
        reason: a `schema.states.Reason` value when `result` is not ok.
        message: one line for people: what, where, what to do.
        outage_s: seconds without a module.
        holders: who holds the device, `pid 8841 (python3) /dev/tenstorrent/0`, truncated to fit.
    """

    verb: str
    result: Result
    changed: bool
    id: str | None = None
    reason: str | None = None
    message: str = ""
    version: str | None = None
    outage_s: float | None = None
    holders: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        pairs: dict[str, Any] = {
            "verb": self.verb,
            "id": self.id,
            "result": str(self.result),
            "changed": self.changed,
            "reason": self.reason,
            "message": self.message or None,
            "version": self.version,
            "outage_s": self.outage_s,
            "holders": list(self.holders) or None,
        }
        return {key: value for key, value in pairs.items() if value is not None}

    def to_line(self) -> str:
        """JSON in one line of at most `VERDICT_LIMIT_BYTES`: holders go first, then the end of the message."""
        data = self.to_json()
        while len(line := json.dumps(data, separators=(",", ":"))) >= VERDICT_LIMIT_BYTES:
            if data.get("holders"):
                data["holders"] = data["holders"][:-1]
            else:
                data["message"] = data["message"][: len(data["message"]) // 2]
        return line

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            verb=data["verb"],
            id=data.get("id"),
            result=Result(data["result"]),
            changed=data["changed"],
            reason=data.get("reason"),
            message=data.get("message", ""),
            version=data.get("version"),
            outage_s=data.get("outage_s"),
            holders=tuple(data.get("holders", ())),
        )
