"""Play: a whole cluster in virtual time, with one or two operators driven by the same loop as on a real server.

The loop itself is handed in (`reconciler.loop.tick`): the simulation lies below it.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

from reconciler.core.actions import Decision, WriteNode
from reconciler.core.node.operate import keeper_hash
from reconciler.core.world import CordonOwner, NodeView, PolicyView, Settings, Term, World
from reconciler.simulation.clock import Agenda
from reconciler.simulation.cluster import Crashed, SimulatedCluster, restarted
from reconciler.simulation.faults import Faults
from reconciler.simulation.machines import Machine, module
from reconciler.simulation.server import Server
from reconciler.simulation.story import Story
from reconciler.simulation.watch import Watch
from reconciler.simulation.workloads import Workloads
from schema.facts import HostMode
from schema.names import DEPLOY_GATES, LABEL_HOSTNAME, LABEL_PRESENT
from schema.policy import Budget, PolicySpec, Requirement, Selector, Source

START = 1_800_000_000.0
NOTICE_S = 0.1  # from a write to the tick that it wakes
RESTART_S = 5.0  # a crashed operator is back
Decide = Callable[[World, float], Decision]
Tick = Callable[[SimulatedCluster, Decide, float], Awaitable[Decision]]


@dataclass(slots=True)
class Process:
    """An operator process and when it looks again."""

    cluster: SimulatedCluster
    wakes_at: float
    seen: int = -1
    decision: Decision = field(default_factory=lambda: Decision(actions=()))


@dataclass(slots=True)
class Follower:
    """Any other process that looks at the cluster now and then; `look` returns the seconds until it wants to again."""

    look: Callable[[float], Awaitable[float]]
    wakes_at: float
    seen: int = -1


@dataclass(slots=True)
class Play:
    """A cluster. Build it with `Play.of`, change `server` and `machines`, and let time pass."""

    tick: Tick
    decide: Decide
    random: Random
    agenda: Agenda
    server: Server
    settings: Settings
    watch: Watch
    story: Story
    workloads: Workloads
    machines: dict[str, Machine] = field(default_factory=dict)
    operators: list[Process] = field(default_factory=list)
    followers: list[Follower] = field(default_factory=list)
    crashes: int = 0
    _identities: Any = field(default_factory=lambda: count(1))

    @classmethod
    def of(cls, *, tick: Tick, decide: Decide, seed: int = 0, settings: Settings | None = None) -> "Play":
        agenda = Agenda(START)
        random = Random(seed)
        server = Server(agenda=agenda)
        known = settings or Settings(namespace="ttfleet", image="builder:1", gates=DEPLOY_GATES)
        play = cls(
            tick=tick,
            decide=decide,
            random=random,
            agenda=agenda,
            server=server,
            settings=known,
            watch=Watch(server=server, settings=known),
            story=Story(server),
            workloads=Workloads(server=server, random=random),
        )
        server.keeper = keeper_hash(known)
        server.changed.append(play.watch.write)
        play.story.listen()
        server.started.append(lambda pod: play.machines[pod.node].start(pod))
        play.workloads.connect()
        return play

    # --- what there is ------------------------------------------------------------------------------------

    def add_node(
        self, name: str, *, version: str | None = "2.7.0", mode: HostMode = HostMode.CONTAINER, **labels: str
    ) -> Machine:
        """A machine with a card, its keeper's facts reported; `version` None: no module."""
        machine = Machine(name=name, server=self.server, random=self.random, mode=mode)
        if version is not None:
            machine.loaded = module(version)
            machine.active = machine.loaded if mode is HostMode.CONTAINER else None
        self.server.nodes[name] = NodeView(
            name=name,
            uid=f"uid-{name}",
            resource_version=str(self.server.stamp()),
            labels={LABEL_PRESENT: "true", LABEL_HOSTNAME: name, **labels},
            annotations={},
            cordon=CordonOwner.NOBODY,
            ready=True,
            ready_since=self.agenda.now,
            boot_id=machine.boot_id,
        )
        self.machines[name] = machine
        machine.unloading.append(self.watch.unload)
        self.story.follow(machine)
        machine.report()
        return machine

    def vanish(self, name: str) -> None:
        """The machine and its Node object are gone, pods and all."""
        machine = self.machines.pop(name)
        for run in machine.runs:
            run.alive = False
        machine.boot += 1  # what it still had to do is void
        del self.server.nodes[name]
        for pod in [pod for pod in self.server.pods.values() if pod.node == name]:
            self.server.remove(pod.uid)
        self.server.stamp()

    def add_operator(self, faults: Faults | None = None, settings: Settings | None = None) -> Process:
        cluster = SimulatedCluster(
            server=self.server,
            settings=settings or self.settings,
            term=Term(identity=f"operator-{next(self._identities)}"),
            faults=faults or Faults(random=self.random),
        )
        process = Process(cluster=cluster, wakes_at=self.agenda.now)
        self.operators.append(process)
        return process

    # --- time ---------------------------------------------------------------------------------------------

    async def run(self, seconds: float, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass; stops early when `until` holds after a tick.

        Returns:
            Whether `until` held (True without one).
        """
        end = self.agenda.now + seconds
        while True:
            if until is not None and until():
                return True
            wakes = [process.wakes_at for process in self.operators]
            due = min([*wakes, *(follower.wakes_at for follower in self.followers)], default=end)
            at = min(due, self.agenda.next_at)
            if at > end:
                self.agenda.run_until(end)
                return until is None or until()
            self.agenda.run_until(max(at, self.agenda.now))
            for index, process in enumerate(self.operators):
                self._notice(process)
                if process.wakes_at <= self.agenda.now:
                    await self._look(index, process)
            for follower in self.followers:
                self._notice(follower)
                if follower.wakes_at <= self.agenda.now:
                    now = self.agenda.now
                    follower.wakes_at = now + await follower.look(now)

    def _notice(self, process: Process | Follower) -> None:
        """A write that this process has not seen wakes it soon."""
        if process.seen != self.server.version:
            process.seen = self.server.version
            process.wakes_at = min(process.wakes_at, self.agenda.now + NOTICE_S)

    async def _look(self, index: int, process: Process) -> None:
        now = self.agenda.now
        try:
            process.decision = await self.tick(process.cluster, self.decide, now)
        except Crashed:
            self.crashes += 1
            cluster = restarted(process.cluster, f"operator-{next(self._identities)}")
            self.operators[index] = Process(
                cluster=cluster, wakes_at=now + RESTART_S, seen=self.server.version
            )
            return
        process.wakes_at = now + process.decision.wake_after_s

    # --- what people ask ----------------------------------------------------------------------------------

    def states(self) -> Mapping[str, tuple[str, str]]:
        """Node -> (state, reason), as the leader (or else anybody) last reported it."""
        leading = [p for p in self.operators if p.cluster.term.leads] or self.operators
        return {report.node: (report.state, report.reason) for report in leading[0].decision.reports}

    def at_rest(self) -> bool:
        """No record on any node, nothing of ours cordoned."""
        return all(
            node.record is None and node.cordon is not CordonOwner.OURS for node in self.server.nodes.values()
        )

    def writes(self) -> list[WriteNode]:
        """Every node write of every operator, in order of time for each of them."""
        return [a for p in self.operators for a in p.cluster.trace if isinstance(a, WriteNode)]


def policy(
    name: str,
    version: str,
    *,
    nodes: tuple[str, ...] = (),
    commit: str | None = None,
    budgets: tuple[Budget, ...] = (),
    annotations: Mapping[str, str] | None = None,
    **fields: Any,
) -> PolicyView:
    """A ttdp on named nodes (none: every node), pinned."""
    expressions = (Requirement(key=LABEL_HOSTNAME, operator="In", values=nodes),) if nodes else ()
    spec = PolicySpec(
        version=version,
        node_affinity=Selector(match_expressions=expressions),
        source=Source(
            repository="https://example.invalid/kmd.git", commit=commit or version.replace(".", "") * 10
        ),
        budgets=budgets,
        **fields,
    )
    return PolicyView(
        name=name,
        uid=f"uid-{name}",
        resource_version="",
        generation=0,
        labels={},
        annotations=annotations or {},
        spec=spec,
        status={},
    )
