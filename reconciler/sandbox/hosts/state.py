"""What a fake host remembers besides its tree: profile, faults, holders. Files below its root, shared by all processes."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from reconciler.sandbox.hosts.profiles import PROFILES, Profile

FAKE: Final = ".fake"  # directory below the root that a real host would not have


@dataclass(frozen=True, slots=True)
class State:
    """Access to `<root>/.fake/state.json`; every change is made under a lock and replaces the file."""

    root: Path

    def read(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads((self.root / FAKE / "state.json").read_bytes())
        return data

    @contextlib.contextmanager
    def change(self) -> Iterator[dict[str, Any]]:
        """Read, let the body alter, write back. Not re-entrant."""
        directory = self.root / FAKE
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            data = self.read() if (directory / "state.json").exists() else {}
            yield data
            temporary = directory / "state.json.new"
            temporary.write_text(json.dumps(data, indent=1))
            temporary.rename(directory / "state.json")
        finally:
            os.close(descriptor)

    @property
    def profile(self) -> Profile:
        return PROFILES[self.read()["profile"]]

    def fault(self, verb: str, version: str = "") -> str | None:
        """The error that this call of `verb` is to fail with, and count it; None: it works."""
        matching = [fault for fault in self.read()["faults"] if _matches(fault, verb, version)]
        if not matching:
            return None
        with self.change() as data:
            for fault in data["faults"]:
                if _matches(fault, verb, version) and fault["times"] is not None:
                    fault["times"] -= 1
        error: str = matching[0]["error"]
        return error


def _matches(fault: dict[str, Any], verb: str, version: str) -> bool:
    return (
        fault["verb"] == verb
        and fault["version"] in {None, version}
        and (fault["times"] is None or fault["times"] > 0)
    )
