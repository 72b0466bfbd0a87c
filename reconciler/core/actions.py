"""What a decider may want done. Each action carries its precondition; each act returns an Outcome, never raises.

Node writes are the rows of docs/node-transaction.md. `Cluster.act` sends one request an action.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any, Protocol

from reconciler.core.world import PodRole, World
from schema.target import Target
from schema.transaction import Claim, History, Record


class Step(StrEnum):
    """Row of node-transaction.md that a node write is."""

    RESERVE = "reserve"  # 2
    CORDON = "cordon"  # 4
    PERMIT = "permit"  # 5
    RELEASE = "release"  # 9 (and the cancelling of a reservation)
    REARM = "rearm"  # 10: back to Cordoned, claim removed
    NOTE = "note"  # history only: a failure before any record (preflight)


class Unset(Enum):
    UNSET = "unset"


UNSET = Unset.UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteNode:
    """One merge patch on a Node with the resourceVersion it was decided from. None removes, UNSET leaves alone."""

    node: str
    resource_version: str
    step: Step
    cr: str
    record: Record | Unset | None = UNSET
    claim: Claim | Unset | None = UNSET
    history: History | Unset = UNSET
    unschedulable: bool | Unset = UNSET
    labels: Mapping[str, str | None] = field(default_factory=dict)
    annotations: Mapping[str, str | None] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeLease:
    """Write 1: become the holder; `resource_version` None creates the Lease."""

    resource_version: str | None
    holder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewLease:
    """Write 3: the fence. `covers` are the nodes whose reservations it fences."""

    resource_version: str
    holder: str
    covers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanNodes:
    """A quorum LIST of nodes after a take-over; its result replaces the informer's store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePod:
    """A stage pod or the worker pod of one attempt (write 6). 409 AlreadyExists counts as done."""

    role: PodRole
    name: str
    node: str
    cr: str
    target: Target
    txn_id: str = ""
    boot_id: str = ""
    attempt: int = 1
    image: str = ""
    image_pull_policy: str = ""
    force_unload: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletePod:
    """Delete by uid precondition; 404 and 409 count as done."""

    namespace: str
    name: str
    uid: str
    node: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EvictPod:
    """One eviction with uid precondition; `dry_run` only asks. `owner` and `late` are for `memory.absorb`."""

    namespace: str
    name: str
    uid: str
    node: str
    cr: str
    drain_pass: int  # 1: device holders, 2: the rest of the node
    dry_run: bool = False
    owner: str = ""
    late: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyKeeper:
    """Server-side apply of DaemonSet ttdrv-keep."""

    image: str
    template_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteStatus:
    """status of a ttdp, whole; only when it differs from what is served."""

    policy: str
    resource_version: str
    status: Mapping[str, Any]


Action = (
    WriteNode
    | TakeLease
    | RenewLease
    | ScanNodes
    | CreatePod
    | DeletePod
    | EvictPod
    | ApplyKeeper
    | WriteStatus
)


class Verb(StrEnum):
    """How an act ended."""

    DONE = "done"
    CONFLICT = "conflict"  # 409: forget the decision
    REFUSED = "refused"  # 429, 403, 422, 500 for ever: the message says which
    UNKNOWN = "unknown"  # time-out, connection lost: re-read
    GONE = "gone"  # 404


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the server said.

    Attributes:
        code: HTTP status, 0 when none arrived.
        resource_version: of the object as written; "" if none.
        cause: of a refused eviction: `DisruptionBudget`, `Misconfigured`, ``.
        message: the server's words, for people.
        foreign_reserved: ScanNodes: nodes with a `Reserved` record that this term did not write.
    """

    verb: Verb
    code: int = 0
    resource_version: str = ""
    cause: str = ""
    message: str = ""
    foreign_reserved: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """State of one node as people see it (status.nodes[], `ttfleet status`, metrics)."""

    node: str
    cr: str
    state: str  # schema.states.NodeState
    reason: str = ""  # schema.states.Reason
    message: str = ""
    current_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a decider wants now. Actions on different nodes are independent; at most one write a node a tick."""

    actions: tuple[Action, ...]
    reports: tuple[NodeReport, ...] = ()
    wake_after_s: float = 30.0  # when to look again if nothing changes


class Cluster(Protocol):
    """The port to a cluster, with two implementations: adapters (the real server) and simulation."""

    async def snapshot(self) -> World: ...

    async def act(self, action: Action) -> Outcome: ...

    def absorb(self, action: Action, outcome: Outcome, now: float) -> None:
        """Remember an outcome: `self.term = memory.absorb(self.term, action, outcome, now)`."""
        ...
