"""Target: what is to be installed on a node. Policy (budgets, drain) is everything else."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self


class Mode(StrEnum):
    """Who owns tt-kmd on a node; the values of the install-mode label."""

    HOST = "host"
    CONTAINER = "container"


class Vacate(StrEnum):
    """Whether a host-managed node may be converted. Once = once per machine (vacated.json)."""

    NEVER = "Never"
    ONCE = "Once"
    ALWAYS = "Always"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A version in an install mode, from a pinned source.

    `version` is None only under `mode: host` ("whatever the machine has"). `commit` and `repository` are None
    where the source is not known (adopted modules, host-managed nodes).
    """

    mode: Mode
    version: str | None = None
    repository: str | None = None
    commit: str | None = None
    vacate: Vacate = Vacate.NEVER

    def same_module(self, other: "Target") -> bool:
        """Same Target = mode, version, and source commit where known (design, section 2.8)."""
        return (
            self.mode is other.mode
            and self.version == other.version
            and (self.commit is None or other.commit is None or self.commit == other.commit)
        )

    @property
    def digest(self) -> str:
        """12 hex digits over every field; names use the first six."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def to_json(self) -> dict[str, Any]:
        """Only the fields that are set; `vacate` only when it is not Never."""
        pairs = {
            "mode": str(self.mode),
            "version": self.version,
            "repository": self.repository,
            "commit": self.commit,
            "vacate": str(self.vacate) if self.vacate is not Vacate.NEVER else None,
        }
        return {key: value for key, value in pairs.items() if value is not None}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`.

        Raises:
            KeyError, ValueError: a field is missing or has an unknown value.
        """
        return cls(
            mode=Mode(data["mode"]),
            version=data.get("version"),
            repository=data.get("repository"),
            commit=data.get("commit"),
            vacate=Vacate(data.get("vacate", "Never")),
        )

    def __str__(self) -> str:
        return f"{self.version or 'as installed'} {self.mode}"
