"""`ttfleet simulate`: the demo's three commits in virtual time, by the same deciders that run on a real cluster."""

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Final

import click

from reconciler.adapters.source import DirectorySource, File, WithoutHistory, blob_id
from reconciler.adapters.tree import Readings, load_tree
from reconciler.commands.errors import EXIT_FINDINGS, EXIT_OK, Failure
from reconciler.commands.fleet import choose_cluster, known_machines, refuse_faults
from reconciler.core.fleet.documents import Tree
from reconciler.core.fleet.resolve import concerns
from reconciler.core.fleet.validate import check
from reconciler.core.node.operate import operate
from reconciler.loop import tick
from reconciler.report.data import Output, dump
from reconciler.report.simulated import ActReport, NodeChange, simulated_text
from reconciler.sandbox.shipped import shipped
from reconciler.simulation.adversary import Adversary
from reconciler.simulation.faults import Faults
from reconciler.simulation.machines import module
from reconciler.simulation.play import Follower, Play
from reconciler.simulation.story import Event
from reconciler.simulation.syncing import SimulatedSync
from reconciler.simulation.workloads import Workload
from schema.names import LABEL_HOSTNAME, LABEL_WAVE

CHANNEL: Final = "stable"
OLD: Final = "2.7.0"
NEW: Final = "2.8.0"
ACT_BOUND_S: Final = 6 * 3600.0  # virtual
ROUGH_S: Final = 600.0  # how long the weather of --faults lasts after a commit
_TOLD: Final = ("claims", "releases", "uncordons", "goes back", "notes", "is NotReady", "is Ready", "sweeps")


@dataclass(frozen=True, slots=True)
class Edited(WithoutHistory):
    """The fleet directory with one channel moved: what a commit would hold. Implements `Source`."""

    base: tuple[File, ...]
    version: str

    def revision(self) -> str:
        return f"stable-{self.version}"

    def files(self, revision: str) -> Iterable[File]:
        del revision
        for file in self.base:
            data = re.sub(rf'(\b{CHANNEL}: *)"[^"]*"'.encode(), rf'\g<1>"{self.version}"'.encode(), file.data)
            yield File(path=file.path, blob=blob_id(data), data=data)


@click.command("simulate")
@click.option("--seed", type=int, default=0, show_default=True, help="Chance; the same seed plays the same.")
@click.option("--nodes", type=click.IntRange(1, 200), help="Nodes instead of those of the example fleet.")
@click.option(
    "--faults", is_flag=True, help="Crashes, lost answers, reboots, cordons and failing modules on the way."
)
@click.option(
    "-o", "--output", type=click.Choice([str(o) for o in Output]), default=str(Output.TEXT), show_default=True
)
def command(seed: int, nodes: int | None, faults: bool, output: str) -> int:
    """Play three commits on a modelled cluster: adopt 2.7.0, move the channel to 2.8.0 (canary first), revert."""
    trees, cluster = _trees()
    stage = Stage.of(trees, cluster, seed=seed, nodes=nodes, faults=faults)
    acts = asyncio.run(stage.play())
    budget = max(b.max_unavailable for p in stage.show.server.policies.values() for b in p.spec.budgets)
    most = stage.show.watch.most
    if output != Output.TEXT:
        data = {
            "seed": seed,
            "acts": [act.to_json() for act in acts],
            "mostUnavailable": most,
            "budget": budget,
        }
        click.echo(dump(data, Output(output)), nl=False)
    else:
        click.echo(simulated_text(acts, most=most, budget=budget, seed=seed, faults=faults), nl=False)
    return EXIT_OK if all(act.settled for act in acts) and most <= budget else EXIT_FINDINGS


def _trees() -> tuple[dict[str, Tree], str]:
    """The example fleet with its channel at either version, free of faults."""
    directory = DirectorySource(Path(shipped("fleet")))
    base = tuple(directory.files(directory.revision()))
    readings = Readings()
    trees = {}
    cluster = ""
    for version in (OLD, NEW):
        source = Edited(base, version)
        tree = load_tree(source, source.revision(), readings)
        cluster = choose_cluster(tree, None)
        refuse_faults(tuple(p for p in (*tree.problems, *check(tree, cluster)) if concerns(p, cluster)))
        trees[version] = tree
    return trees, cluster


@dataclass(slots=True)
class Stage:
    """A modelled cluster that follows the example fleet."""

    show: Play
    sync: SimulatedSync
    trees: dict[str, Tree]
    adversary: Adversary | None

    @classmethod
    def of(
        cls, trees: dict[str, Tree], cluster: str, *, seed: int, nodes: int | None, faults: bool
    ) -> "Stage":
        show = Play.of(tick=tick, decide=operate, seed=seed)
        machines = list(known_machines(trees[OLD], cluster))
        if not machines:
            raise Failure("the example fleet has no Inventory")
        for index in range(nodes or len(machines)):
            known = machines[index % len(machines)]
            name = known.name if nodes is None else f"tt-{index + 1:02d}"
            machine = show.add_node(name, version=known.version)
            machine.loaded = machine.active = module(known.version, known.commit)
            labels = {**known.labels, **show.server.nodes[name].labels, LABEL_HOSTNAME: name}
            show.server.touch(name, "kubelet", labels=labels)
            machine.report()
        show.workloads.deploy(Workload(name="train", replicas=max(1, len(show.machines) * 2 // 3)))
        show.workloads.telemetry()
        for _ in range(2):
            show.add_operator(Faults(random=Random(show.random.random())))
        sync = SimulatedSync(play=show, drive=tick, cluster=cluster)
        show.followers.append(Follower(sync.look, show.agenda.now))
        adversary = Adversary(show, Random(seed), pause_s=10.0) if faults else None
        return cls(show, sync, trees, adversary)

    async def play(self) -> tuple[ActReport, ...]:
        await self.show.run(30)  # the keepers have reported, an operator leads
        steps = (
            (f"commit 1 adopts the fleet at {OLD}", OLD, 1),
            (f"commit 2 moves channel {CHANNEL} to {NEW}", NEW, 2),
            (f"git revert brings {OLD} back", OLD, 3),
        )
        return tuple([await self._act(title, version, number) for title, version, number in steps])

    async def _act(self, title: str, version: str, number: int) -> ActReport:
        show, story = self.show, self.show.story
        begun, seen = show.agenda.now, len(story.events)
        before = {name: machine.loaded for name, machine in show.machines.items()}
        self.sync.told = lambda text: story.say("", "reconciler", text)
        self.sync.commits.append(replace(self.trees[version], revision=f"commit-{number}"))
        show.server.stamp()  # the new commit wakes the reconciler
        if self.adversary:
            await self._weather(self.adversary)
        settled = await show.run(ACT_BOUND_S, until=lambda: self.sync.settled and show.at_rest())
        waves = self._waves()
        changes = []
        for name, machine in sorted(show.machines.items()):
            was, now = before[name], machine.loaded
            latest = show.server.nodes[name].history.latest
            if (was and was.version) != (now and now.version):
                changes.append(
                    NodeChange(
                        node=name,
                        wave=waves.get(name, ""),
                        before=was.version if was else "",
                        after=now.version if now else "",
                        outage_s=latest.outage_s if latest else None,
                    )
                )
        return ActReport(
            title=title,
            took_s=show.agenda.now - begun,
            timeline=tuple((e.time - begun, _sentence(e)) for e in story.events[seen:] if _telling(e)),
            changes=tuple(changes),
            settled=settled,
            open={n: f"{s} ({r})" if r else s for n, (s, r) in show.states().items() if s != "Done"},
        )

    async def _weather(self, adversary: Adversary) -> None:
        adversary.active = True
        adversary.begin()
        await self.show.run(ROUGH_S)
        adversary.calm()
        for _ in range(3):
            await self.show.run(ROUGH_S)
            for name, (_, reason) in self.show.states().items():
                if reason == "RebootRequired":
                    self.show.machines[name].reboot()
            adversary.retry()

    def _waves(self) -> dict[str, str]:
        policies = self.show.server.policies
        return {
            report.node: policies[report.cr].labels.get(LABEL_WAVE, "")
            for process in self.show.operators
            for report in process.decision.reports
            if report.cr in policies
        }


def _telling(event: Event) -> bool:
    return event.who in {"reconciler", "human"} or event.text.startswith(_TOLD)


def _sentence(event: Event) -> str:
    if not event.node:
        return event.text
    who = "" if event.who in {"operator", "builder", "kubelet"} else f"{event.who} "
    words = event.text.replace("claims", "drained, swaps its driver").replace("releases: at", "runs")
    return f"  {event.node}  {who}{words}"
