"""From documents and nodes to what every node shall have: Target, policy, and who said so.

A node gets its Target and policy from the layers Fleet < Cluster < NodePool < Node (design, section 1). Nothing here
depends on the order of nodes or files.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from reconciler.core.fleet.documents import Document, Mark, Problem, Setting, Tree
from reconciler.core.fleet.layers import Settings, merge
from reconciler.core.fleet.machines import Machine
from reconciler.core.fleet.problems import Code
from reconciler.core.fleet.waves import WaveSpec, wave_table
from schema.names import DEFAULT_REPOSITORY
from schema.policy import Budget, Drain, Selector
from schema.target import Mode, Target, Vacate

LAYERS: Final = ("Fleet", "Cluster", "NodePool", "Node")
BUDGET_CLUSTER: Final = "cluster"
_DRAIN: Final = (
    ("enable", "enable"),
    ("fullNode", "full_node"),
    ("podSelectorLabel", "pod_selector_label"),
    ("force", "force"),
    ("deleteEmptyDir", "delete_empty_dir"),
    ("timeoutSeconds", "timeout_s"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Everything that is not the Target; it applies at once, without waves."""

    drain: Drain = field(default_factory=Drain)
    budgets: tuple[Budget, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDesired:
    """One node. `why` names, by path below `spec`, the place that set each field; `hold` is why it stays as it is."""

    machine: Machine
    pool: str
    target: Target
    policy: Policy
    why: Mapping[str, Mark]
    hold: str = ""
    stopped: str = ""  # the Release is blocked, and why: nothing starts towards it

    @property
    def node(self) -> str:
        return self.machine.name


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolDesired:
    """A pool: its own Target (exceptions by node apart), its wave table, its nodes sorted by name."""

    name: str
    mark: Mark
    target: Target | None
    waves: tuple[WaveSpec, ...]
    nodes: tuple[NodeDesired, ...]
    allow_downgrade: bool = False

    @property
    def exceptions(self) -> tuple[tuple[str, Target], ...]:
        return tuple((node.node, node.target) for node in self.nodes if node.target != self.target)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """Numbers above which a plan is refused (design, section 2.7)."""

    max_vacates: int = 1
    max_deletes: int = 0
    max_moves: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What one commit wants of one cluster.

    Attributes:
        unassigned: nodes with a card that no pool matches.
        contested: node -> the pools that match it; such a node alone is left as it is.
        problems: what keeps the commit from being applied at all.
    """

    cluster: str
    revision: str
    pools: tuple[PoolDesired, ...]
    guards: Guards
    unassigned: tuple[str, ...] = ()
    contested: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    @property
    def nodes(self) -> Mapping[str, NodeDesired]:
        return {node.node: node for pool in self.pools for node in pool.nodes}


def cluster_names(tree: Tree) -> tuple[str, ...]:
    """Names below `clusters/`, sorted; empty where the repository is one cluster."""
    return tuple(sorted({document.cluster for document in tree.documents} - {""}))


def concerns(problem: Problem, cluster: str) -> bool:
    """Whether a problem is one of `cluster`: the shared part's or its own; another cluster's error stops nobody."""
    parts = problem.mark.file.split("/")
    return not cluster or parts[0] != "clusters" or len(parts) < 3 or parts[1] == cluster


def resolve(tree: Tree, cluster: str, machines: Iterable[Machine]) -> Desired:
    """What `tree` wants of every node of `cluster`."""
    known = sorted((machine for machine in machines), key=lambda machine: machine.name)
    pools = tree.of_kind("NodePool", cluster)
    wants = [(pool, chooser(pool)) for pool in pools]
    matches = {machine.name: tuple(pool for pool, want in wants if want(machine)) for machine in known}
    contested = {
        name: tuple(pool.name for pool in found) for name, found in matches.items() if len(found) > 1
    }
    members = {
        pool.name: tuple(machine for machine in known if matches[machine.name] == (pool,)) for pool in pools
    }
    scope = _Scope(tree=tree, cluster=cluster, assigned=sum(len(found) for found in members.values()))
    resolved = tuple(scope.pool(pool, members[pool.name]) for pool in sorted(pools, key=lambda d: d.name))
    return Desired(
        cluster=cluster,
        revision=tree.revision,
        pools=resolved,
        guards=_guards(scope.shared),
        unassigned=tuple(machine.name for machine in known if machine.has_card and not matches[machine.name]),
        contested=contested,
        problems=(*scope.problems, *_shared_hostnames(resolved)),
    )


def chooser(pool: Document) -> Callable[[Machine], bool]:
    """Whether a NodePool document wants a node: by name, or a node with a card by its labels."""
    if "nodes" in pool.spec:
        names = frozenset(pool.spec["nodes"])
        return lambda machine: machine.name in names
    if pool.spec.get("selector") is None:
        return lambda _: False
    selector = Selector.from_json(pool.spec["selector"])
    return lambda machine: machine.has_card and selector.matches(machine.labels)


def selects(pool: Document, machine: Machine) -> bool:
    """`chooser`, for one node."""
    return chooser(pool)(machine)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Terms:
    """What a pool, or one node of it, resolves to."""

    settings: Settings
    target: Target | None
    policy: Policy
    why: Mapping[str, Mark]


class _Scope:
    """One resolution: the documents that a cluster sees, and the problems found on the way."""

    def __init__(self, *, tree: Tree, cluster: str, assigned: int) -> None:
        self.size = assigned  # nodes that are in a pool: what percentages are of
        self.channels: dict[str, tuple[str, Mark]] = {}
        shared = (*tree.of_kind("Fleet", cluster), *tree.of_kind("Cluster", cluster))
        self.shared: tuple[Document, ...] = shared
        for document in shared:
            for name, version in document.spec.get("channels", {}).items():
                self.channels[name] = (version, document.mark_at("spec", "channels", name))
        self.releases = {document.name: document for document in tree.of_kind("Release", cluster)}
        self.exceptions = {document.name: document for document in tree.of_kind("Node", cluster)}
        self.problems: list[Problem] = []

    def pool(self, pool: Document, machines: Sequence[Machine]) -> PoolDesired:
        common = self._terms(pool, None)
        nodes = (self._node(pool, machine, common) for machine in machines)
        return PoolDesired(
            name=pool.name,
            mark=pool.mark,
            target=common.target,
            allow_downgrade=common.settings.value("allowDowngrade", default=False),
            waves=wave_table(common.settings.value("waves", default=())),
            nodes=tuple(node for node in nodes if node is not None),
        )

    def _node(self, pool: Document, machine: Machine, common: "_Terms") -> NodeDesired | None:
        own = self.exceptions.get(machine.name)
        terms = self._terms(pool, own) if own else common
        if terms.target is None:
            return None
        return NodeDesired(
            machine=machine,
            pool=pool.name,
            target=terms.target,
            policy=terms.policy,
            why=terms.why,
            hold=_hold(own),
            stopped=self._stopped(terms.target),
        )

    def _terms(self, pool: Document, own: Document | None) -> "_Terms":
        settings = merge((*self.shared, pool, *((own,) if own else ())))
        return _Terms(
            settings=settings,
            target=self._target(settings, own.mark if own else pool.mark),
            policy=_policy(settings, self._budgets(pool)),
            why=self._why(settings, pool),
        )

    def _target(self, settings: Settings, mark: Mark) -> Target | None:
        mode = Mode(settings.value("kmd", "mode"))
        version = self._version(settings)
        if mode is Mode.HOST:
            return Target(mode=mode, version=version[0] if version else None)
        if version is None:
            if version_setting(settings) is None:
                hint = "set kmd.version or kmd.channel, or the cluster's channel"
                self._problem(mark, Code.NO_VERSION, "mode container needs a version or a channel", hint)
            return None
        release = self.releases.get(version[0])
        if release is None:
            message = f"version {version[0]} has no Release"
            hint = f"a Release {version[0]} names the commit that it is built from"
            self._problem(version[1], Code.NO_RELEASE, message, hint)
            return None
        return Target(
            mode=mode,
            version=version[0],
            repository=release.spec.get("repository", DEFAULT_REPOSITORY),
            commit=release.spec["commit"],
            vacate=Vacate(settings.value("kmd", "vacate", default="Never")),
        )

    def _version(self, settings: Settings) -> tuple[str, Mark] | None:
        """The version and the place that says it; through a channel, the channel's."""
        setting = version_setting(settings)
        if setting is None:
            return None
        if setting is settings.find("kmd", "version"):
            return str(setting.value), setting.mark
        if setting.value not in self.channels:
            hint = f"channels: {', '.join(sorted(self.channels)) or 'none'}"
            self._problem(setting.mark, Code.NO_CHANNEL, f"no channel {setting.value!r}", hint)
            return None
        return self.channels[setting.value]

    def _why(self, settings: Settings, pool: Document) -> dict[str, Mark]:
        why = {".".join(map(str, path)): setting.mark for path, setting in settings.by_path.items()}
        why["pool"] = pool.mark
        if version := self._version(settings):
            why["version"] = version[1]
        return why

    def _stopped(self, target: Target) -> str:
        release = self.releases.get(target.version or "")
        blocked = release.spec.get("blocked") if release else None
        return str(blocked) if blocked else ""

    def _budgets(self, pool: Document) -> tuple[Budget, ...]:
        """Per cluster always (1 where nothing is said), per pool where the pool says one: all of them apply."""
        said = [(BUDGET_CLUSTER, merge(self.shared).value("maxUnavailable", default=1))]
        said += [(f"pool/{pool.name}", pool.spec["maxUnavailable"])] if "maxUnavailable" in pool.spec else []
        return tuple(Budget(group=group, max_unavailable=share(most, self.size)) for group, most in said)

    def _problem(self, mark: Mark, code: Code, message: str, hint: str) -> None:
        problem = Problem(mark=mark, code=code, message=message, hint=hint)
        if problem not in self.problems:
            self.problems.append(problem)


def version_setting(settings: Settings) -> Setting | None:
    """What decides the version: of `kmd.version` and `kmd.channel` the more specific one, else the cluster's channel."""
    version, channel = settings.find("kmd", "version"), settings.find("kmd", "channel")
    if version is None or channel is None:
        return version or channel or settings.find("channel")
    return version if LAYERS.index(version.kind) >= LAYERS.index(channel.kind) else channel


def share(amount: int | str, of: int) -> int:
    """A number, or a percentage of `of` as a whole number; at least 1."""
    if isinstance(amount, str):
        amount = int(amount.removesuffix("%")) * of // 100
    return max(1, amount)


def _policy(settings: Settings, budgets: tuple[Budget, ...]) -> Policy:
    default = Drain()
    drain: dict[str, Any] = {
        name: settings.value("drain", key, default=getattr(default, name)) for key, name in _DRAIN
    }
    return Policy(
        drain=Drain(**drain),
        budgets=budgets,
    )


def _hold(own: Document | None) -> str:
    if own is None or not own.spec.get("hold"):
        return ""
    return str(own.spec.get("reason") or "held in git")


def _guards(shared: Sequence[Document]) -> Guards:
    settings, default = merge(shared), Guards()
    return Guards(
        max_vacates=settings.value("guards", "maxVacates", default=default.max_vacates),
        max_deletes=settings.value("guards", "maxDeletes", default=default.max_deletes),
        max_moves=settings.value("guards", "maxMoves", default=default.max_moves),
    )


def _shared_hostnames(pools: Sequence[PoolDesired]) -> tuple[Problem, ...]:
    """A ttdp selects by the hostname label: two nodes that share a value cannot be told apart."""
    owners: dict[str, str] = {}
    problems = []
    for pool in pools:
        for node in pool.nodes:
            other = owners.setdefault(node.machine.hostname, node.node)
            if other != node.node:
                message = f"nodes {other} and {node.node} share the hostname label {node.machine.hostname!r}"
                problems.append(
                    Problem(
                        mark=pool.mark,
                        code=Code.SHARED_HOSTNAME,
                        message=message,
                        hint="give each its own label",
                    )
                )
    return tuple(problems)
