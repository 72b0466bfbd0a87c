"""World: everything a decision may look at, as frozen values. Built by `Cluster.snapshot()`, real or simulated.

Nothing here does I/O. A resource version is an opaque string that goes back to the server as a precondition.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from schema.facts import HostFacts
from schema.policy import PolicySpec
from schema.transaction import Claim, History, Record
from schema.verdict import Verdict


class CordonOwner(StrEnum):
    """Who owns `spec.unschedulable`, by managedFields. UNSURE counts as foreign wherever it matters."""

    NOBODY = "nobody"  # the node is schedulable
    OURS = "ours"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """One Node object. Annotations that do not parse count as absent and are listed in `faults`."""

    name: str
    uid: str
    resource_version: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    cordon: CordonOwner
    ready: bool
    ready_since: float  # POSIX seconds of the Ready condition's last transition
    boot_id: str
    record: Record | None = None
    claim: Claim | None = None
    history: History = field(default_factory=History)
    facts: HostFacts | None = None
    faults: tuple[str, ...] = ()

    @property
    def unschedulable(self) -> bool:
        return self.cordon is not CordonOwner.NOBODY


class PodRole(StrEnum):
    WORKLOAD = "workload"
    KEEP = "keep"
    STAGE = "stage"
    SWAP = "swap"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """One Pod that has a node.

    Attributes:
        owner: `Kind/uid` of the controlling owner, "" for a bare pod.
        uses_device: hostPath at or below /dev/tenstorrent, tenstorrent.com/* resources, DRA claim, or uses-device label.
        mirror: a static pod's mirror.
        finished: phase Succeeded or Failed.
        finished_at: POSIX seconds when its main container ended.
        stuck_reason: waiting reason such as ErrImagePull or CrashLoopBackOff, "" otherwise.
        txn_id, target_digest, attempt: from our own annotations, on stage and swap pods.
        verdict: parsed termination message of a finished pod of ours, None when lost.
        gated: its node affinity names one of our deploy gates, so its DaemonSet takes it away when the gate closes.
    """

    namespace: str
    name: str
    uid: str
    node: str
    role: PodRole
    labels: Mapping[str, str]
    owner: str
    phase: str
    ready: bool
    terminating: bool
    uses_device: bool
    daemonset: bool
    mirror: bool
    empty_dir: bool
    started_at: float
    finished_at: float = 0.0
    stuck_reason: str = ""
    txn_id: str = ""
    target_digest: str = ""
    attempt: int = 0
    verdict: Verdict | None = None
    gated: bool = False

    @property
    def finished(self) -> bool:
        return self.phase in {"Succeeded", "Failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyView:
    """One ttdp. `spec_fault` says why a spec cannot be read (it then starts nothing)."""

    name: str
    uid: str
    resource_version: str
    generation: int
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: PolicySpec
    status: Mapping[str, object]
    deleting: bool = False
    spec_fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseView:
    """The operators' Lease. `unchanged_for_s` is this process's own monotonic observation, never the server's clock."""

    resource_version: str | None  # None: there is no Lease object yet
    holder: str
    unchanged_for_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """A write 2 of our own that landed. `fenced`: a Lease renewal succeeded after it (write 3)."""

    id: str
    resource_version: str
    fenced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server said to the last eviction of one pod, asked for real or as a dry run.

    Attributes:
        at: POSIX seconds when it answered.
        owner: controlling owner of the pod, as in `PodView.owner`.
        cause: `DisruptionBudget`, `Misconfigured`, or "" for anything else that was refused.
        late: the pod had landed on the node after we cordoned it.
        refusals: answers in a row that refused.
    """

    at: float
    node: str
    owner: str
    dry_run: bool
    allowed: bool
    cause: str = ""
    message: str = ""
    late: bool = False
    refusals: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """All that an operator process remembers: its leadership. Losing it (a crash) is always safe.

    Attributes:
        identity: unique per process start.
        lease_version: resource version of our own last Lease write; None: not the leader.
        renewed_at: POSIX seconds of that write by our clock (only decides when to renew, never who leads).
        clean: a quorum LIST after take-over showed no foreign `Reserved`; only then are nodes admitted.
        reservations: node name -> our own reservation of this term, until it is cordoned or cancelled.
        answers: pod uid -> the last answer to its eviction; forgotten after an hour. Never needed for safety.
    """

    identity: str
    lease_version: str | None = None
    renewed_at: float = 0.0
    clean: bool = False
    reservations: Mapping[str, Reservation] = field(default_factory=dict)
    answers: Mapping[str, Answer] = field(default_factory=dict)

    @property
    def leads(self) -> bool:
        return self.lease_version is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The operator's own configuration (chart values)."""

    namespace: str
    image: str  # builder image
    releases: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # version -> (repository, commit)
    gates: tuple[str, ...] = ()
    max_staging: int = 10
    lease_duration_s: float = 15.0
    lease_renew_s: float = 5.0
    retry_base_s: float = 30.0
    retry_limit_s: float = 3600.0
    observe: bool = False  # a FleetSync in Observe: nothing but the keeper is written
    own_node: str = ""  # where this operator runs: that node comes last
    offline_after_s: float = 600.0  # NotReady for longer is Offline, not Blocked


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One consistent look at the cluster (the informer's stores), plus what this process remembers."""

    policies: Mapping[str, PolicyView]
    nodes: Mapping[str, NodeView]
    pods: Mapping[str, tuple[PodView, ...]]  # by node name
    lease: LeaseView
    term: Term
    settings: Settings
    held: str = ""  # hold annotation or suspend of the FleetSync: nothing starts anywhere
    keeper: str = ""  # template hash of the DaemonSet ttdrv-keep as it stands, "" if there is none
    halted: str = ""  # set when every start must halt (StateRolledBack)
