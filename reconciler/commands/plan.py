"""`ttfleet plan`: what a fleet directory changes, node by node, without a cluster."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from reconciler.adapters.git import CommitSource
from reconciler.adapters.source import SourceError
from reconciler.adapters.tree import Readings, load_tree
from reconciler.commands.errors import EXIT_FINDINGS, EXIT_GUARD, EXIT_OK, Failure
from reconciler.commands.fleet import Fleet, open_fleet
from reconciler.core.fleet.machines import Machine
from reconciler.core.fleet.resolve import Desired, resolve
from reconciler.core.rollout.guards import DOWNGRADE_COMMITS, Refusal, refusals
from reconciler.core.rollout.plan import Kind, Plan, digest, draft
from reconciler.report.data import to_json, to_yaml
from reconciler.report.plans import plan_text
from schema.target import Target


@click.command("plan")
@click.option(
    "--path",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="Directory of the fleet repository.",
)
@click.option("--cluster", help="Cluster to plan for (where there are several).")
@click.option(
    "--from-inventory", is_flag=True, help="Nodes come from the Inventory in the repository (the default)."
)
@click.option("--against", metavar="REV", help="Compare with this commit instead of what is installed.")
@click.option("--exit-code", is_flag=True, help="Exit 1 when something would change.")
@click.option(
    "-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True
)
def command(
    path: Path, cluster: str | None, from_inventory: bool, against: str | None, exit_code: bool, output: str
) -> int:
    """Print every node that changes, from what to what, in which wave, and what blocks it."""
    del from_inventory  # there is no other way yet
    fleet = open_fleet(path, cluster)
    earlier = _earlier(path, against, fleet) if against else ()
    fleet = replace(fleet, machines=tuple(_as_of(machine, earlier) for machine in fleet.machines))
    desired = fleet.desired()
    plan = _draft(desired, earlier, fleet)
    refused = refusals(
        desired, plan, placed=_placed(earlier), past=_past(earlier), returning=_returning(desired, earlier)
    )
    click.echo(_printed(plan, refused, output), nl=False)
    if refused:
        return EXIT_GUARD
    return EXIT_FINDINGS if exit_code and plan.pending else EXIT_OK


def _draft(desired: Desired, earlier: Sequence[Desired], fleet: Fleet) -> Plan:
    """A first plan of every pool."""
    ids = {pool.name: f"{pool.name}/1-{digest(pool)}" for pool in desired.pools}
    before = earlier[0].nodes.keys() if earlier else frozenset[str]()
    staying = desired.nodes.keys() | desired.contested.keys()
    dropped = [machine for machine in fleet.machines if machine.name in before - staying]
    return draft(desired, ids=ids, dropped=dropped)


def _earlier(path: Path, revision: str, fleet: Fleet) -> tuple[Desired, ...]:
    """The fleet as a commit and its first-parent ancestors had it, newest first, for the same nodes."""
    source, readings = CommitSource(directory=path, name=revision), Readings()
    try:
        head = source.revision()
        commits = (head, *source.history(head, DOWNGRADE_COMMITS - 1))
        trees = [load_tree(source, commit, readings) for commit in commits]
    except SourceError as error:
        raise Failure(str(error)) from error
    return tuple(resolve(tree, fleet.cluster, fleet.machines) for tree in trees)


def _as_of(machine: Machine, earlier: Sequence[Desired]) -> Machine:
    """A node that has what the earlier commit gave it, instead of what is installed."""
    targets = [desired.nodes[machine.name].target for desired in earlier if machine.name in desired.nodes]
    if not earlier or machine.name not in earlier[0].nodes:
        return machine
    now = targets[0]
    return replace(
        machine,
        mode=now.mode,
        version=now.version or machine.version,
        commit=now.commit,
        had=tuple(targets[1:]),
    )


def _placed(earlier: Sequence[Desired]) -> dict[str, frozenset[str]]:
    return {name: frozenset({node.pool}) for name, node in earlier[0].nodes.items()} if earlier else {}


def _returning(desired: Desired, earlier: Sequence[Desired]) -> frozenset[str]:
    """Nodes whose pool had them in one of the commits before."""
    had = {(name, node.pool) for one in earlier for name, node in one.nodes.items()}
    return frozenset(name for name, node in desired.nodes.items() if (name, node.pool) in had)


def _past(earlier: Sequence[Desired]) -> dict[str, frozenset[Target]]:
    """Targets by pool in the commits before."""
    past: dict[str, frozenset[Target]] = {}
    for pool in (pool for desired in earlier for pool in desired.pools):
        targets = {node.target for node in pool.nodes} | ({pool.target} if pool.target else set())
        past[pool.name] = past.get(pool.name, frozenset()) | targets
    return past


def _printed(plan: Plan, refused: tuple[Refusal, ...], output: str) -> str:
    if output == "text":
        return plan_text(plan, refused)
    refusal = [{"guard": str(r.guard), "message": r.message} for r in refused]
    data = plan.to_json() | {"refused": refusal}
    data["changes"] = [entry for entry in data["changes"] if entry["kind"] != Kind.NONE or "blocked" in entry]
    return to_json(data) if output == "json" else to_yaml([data])
