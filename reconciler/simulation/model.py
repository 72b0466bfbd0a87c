"""Model: the values of the proof. A server, hosts and builders, small enough to be searched exhaustively.

Resource versions are relative: `CURRENT` is what the server has now, anything else is stale; every stored time is `NOW`.
So there are finitely many states.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from reconciler.core.world import CordonOwner
from schema.clock import format_rfc3339
from schema.transaction import Claim, History, Record, Result

CURRENT: Final = "1"
STALE: Final = "0"
NOW: Final = 1_800_000_000.0  # every stored time is this one; "late" is a day after it
DAY_S: Final = 86_400.0
STAMP: Final = format_rfc3339(NOW)
OLD, NEW = "2.7.0", "2.8.0"
COMMITS = {OLD: "7" * 40, NEW: "8" * 40}
IDENTITIES = ("a", "b")
State = tuple[int, ...]
T = TypeVar("T")


class Violation(Exception):  # noqa: N818  a finding, not an error
    """A safety property does not hold in a state or a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How often the adversary may strike in one history."""

    takes: int = 2  # take-overs of the Lease
    crashes: int = 0  # of an operator, also with a write on the wire
    losses: int = 0  # answers that never arrive, the write does or does not
    cordons: int = 0  # by a human
    uncordons: int = 0
    reboots: int = 0
    kills: int = 0  # of a builder
    ghosts: int = 0  # pods that start although they should not: twice, or after their end
    edits: int = 0  # of the wanted version, back and forth
    bad_loads: int = 0  # insmod fails, the previous module is loaded


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """One configuration of the search."""

    nodes: int
    budget: int = 1
    serials: int = 2  # transactions of a node, after which the search goes no further
    workers: int = 3  # worker pods of a transaction, likewise
    lag: bool = False  # what operators know of nodes may be old, but for their own writes and a LIST
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Facts:
    """What a machine says of itself. `loaded` is "" while there is no module; `opened`: a journal entry is open."""

    boot: int = 0
    loaded: str = OLD
    active: str = OLD
    opened: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """A Node object without names and versions."""

    cordon: CordonOwner = CordonOwner.NOBODY
    record: Record | None = None
    claim: Claim | None = None
    history: History = field(default_factory=History)
    boot: int = 0
    facts: Facts = Facts()  # what the builder reported last


@dataclass(frozen=True, slots=True)
class Process:
    """A builder on a host: pc 0 started, 1 locked, 2 read the node, 3 claimed, 4 unloaded, 5 loaded, 6 committed."""

    txn: str
    version: str
    boot: int  # of its permit
    pod: int  # attempt of the pod it stands for; 0 for a ghost
    pc: int = 0
    valid: bool = True  # what it read is still what the server has
    uncordoned: bool = False  # a human uncordoned after the claim
    result: Result = Result.OK


@dataclass(frozen=True, slots=True)
class Host:
    """A machine. `journal` is the open entry: transaction, version that it loads, boot in which it was opened."""

    boot: int = 0
    loaded: str = OLD  # "" while there is none
    active: str = OLD
    journal: tuple[str, str, int] | None = None
    processes: tuple[Process, ...] = ()

    @property
    def facts(self) -> Facts:
        return Facts(self.boot, self.loaded, self.active, self.journal is not None)


@dataclass(frozen=True, slots=True)
class Pod:
    """A worker pod object. `state`: created, running, lost, refused, ok."""

    txn: str
    version: str
    boot: int
    attempt: int
    state: str = "created"


class Pool(Generic[T]):
    """Frozen values by small integers."""

    def __init__(self) -> None:
        self.values: list[T] = []
        self._index: dict[Hashable, int] = {}

    def of(self, value: T, key: Hashable = None) -> int:
        """The number of a value; `key` stands for one that has no hash."""
        key = value if key is None else key
        found = self._index.get(key)
        if found is None:
            found = self._index[key] = len(self.values)
            self.values.append(value)
        return found
