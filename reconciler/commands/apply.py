"""`ttfleet apply`: one pass. Fetch, plan, guard, apply, and say what became of every policy."""

import asyncio
import logging
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import click

from reconciler.adapters.kube import ConnectError, Kube
from reconciler.commands.connection import connection_options
from reconciler.commands.errors import (
    EXIT_FINDINGS,
    EXIT_GUARD,
    EXIT_OK,
    EXIT_PARTIAL,
    EXIT_TIMEOUT,
    EXIT_TRUST,
    EXIT_USAGE,
    Failure,
)
from reconciler.commands.fleet import open_fleet
from reconciler.commands.run import default_cache, follow_path
from reconciler.core.actions import Outcome, Verb
from reconciler.core.rollout.sequence import sequence
from reconciler.core.rollout.syncworld import (
    ApplyPolicy,
    DeletePolicy,
    Stall,
    SyncAction,
    SyncDecision,
    WriteSync,
)
from reconciler.loop import tick
from reconciler.report.data import to_json, to_yaml
from reconciler.report.plans import table
from reconciler.sync.repository import Repository, open_repository
from reconciler.sync.server import FleetServer
from schema.sync import SyncMode, SyncReason, SyncSpec

PASSES = 8  # growing, setting, pruning, status, and as many conflicts; what waits for nodes is the next run's
SYNC_TIMEOUT_S = 60.0
_EXIT_CODES = {
    SyncReason.GUARD_REFUSED: EXIT_GUARD,
    SyncReason.VALIDATION_FAILED: EXIT_FINDINGS,
    SyncReason.CLUSTER_UID_MISMATCH: EXIT_TRUST,
    SyncReason.NOT_FAST_FORWARD: EXIT_TRUST,
}


@dataclass
class Results:
    """What became of each policy: created, configured, deleted, unchanged, or failed with the server's words."""

    rows: dict[str, tuple[str, str]] = field(default_factory=dict)

    def heard(self, action: SyncAction, outcome: Outcome) -> None:
        if isinstance(action, WriteSync) or outcome.verb is Verb.CONFLICT:
            return
        name = action.manifest.name if isinstance(action, ApplyPolicy) else action.name
        if outcome.verb is not Verb.DONE:
            self.rows[name] = ("failed", outcome.message)
        elif isinstance(action, DeletePolicy):
            self.rows[name] = ("deleted", "")
        else:
            made = action.resource_version is None or self.rows.get(name, ("",))[0] == "created"
            gate = "waiting" if action.manifest.spec.waiting else "open"
            self.rows[name] = ("created" if made else "configured", f"{action.why}, {gate}")

    @property
    def failed(self) -> bool:
        return any(result == "failed" for result, _ in self.rows.values())


@click.command("apply")
@connection_options
@click.option(
    "--path",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A fleet directory; by default what the FleetSync of the cluster names.",
)
@click.option("--cluster", default="", help="Name of this cluster in --path, where it has several.")
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=default_cache,
    help="Directory for git caches.  [default: $XDG_CACHE_HOME/ttfleet]",
)
@click.option("--dry-run", type=click.Choice(["none", "server", "client"]), default="none", show_default=True)
@click.option(
    "--allow-rewrite", is_flag=True, help="Accept a history without the commit that was applied last."
)
@click.option(
    "-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True
)
def command(
    kubeconfig: str | None,
    context: str | None,
    path: Path | None,
    cluster: str,
    cache: Path,
    dry_run: str,
    allow_rewrite: bool,
    output: str,
) -> int:
    """Apply a commit once, whatever the FleetSync's mode; waves that have to wait for nodes stay closed."""
    logging.getLogger("reconciler").setLevel(logging.ERROR)
    results = Results()
    if path is not None:
        # every fault at once: the status has room for one
        cluster = open_fleet(path, cluster or None).cluster

    async def run() -> SyncDecision:
        async with await Kube.connect(kubeconfig, context, user_agent="ttfleet-apply") as kube:
            server = FleetServer(kube=kube, heard=results.heard, dry_run=dry_run.replace("none", ""))
            follow_path(server, path, cluster)
            _enforce(server)
            async with server.running():
                await asyncio.wait_for(server.synced(), SYNC_TIMEOUT_S)
                return await apply_once(server, cache, allow_rewrite=allow_rewrite)

    try:
        decision = asyncio.run(run())
    except ConnectError as error:
        raise Failure(str(error), EXIT_USAGE) from error
    except TimeoutError as error:
        message = f"the API server did not list nodes, policies and FleetSyncs within {SYNC_TIMEOUT_S:g} s"
        raise Failure(message, EXIT_TIMEOUT) from error
    return _told(decision, results, output, dry_run)


async def apply_once(server: FleetServer, cache: Path, *, allow_rewrite: bool = False) -> SyncDecision:
    """Ticks until nothing is left that can be written now.

    Raises:
        Failure: there is neither a FleetSync nor a path.
    """
    views = server.sync_views()
    if not views:
        raise Failure("no FleetSync in the cluster, and no --path")
    server.chosen = views[0].name
    opened = open_repository(views[0].spec, cache, allow_rewrite=allow_rewrite)
    decision = SyncDecision(actions=())
    for _ in range(PASSES):
        last = server.sync_views()[0].last_applied
        if isinstance(opened, Repository):
            server.fetched = await asyncio.to_thread(opened.fetch, last)
        else:
            server.fetched = replace(server.fetched, fault=opened)
        decision = await tick(server, sequence, time.time())
        if not decision.actions or decision.stall or server.dry_run:
            break
    return decision


def _enforce(server: FleetServer) -> None:
    inner = server.override

    def override(spec: SyncSpec) -> SyncSpec:
        return replace(inner(spec), mode=SyncMode.ENFORCE)

    server.override = override


def _told(decision: SyncDecision, results: Results, output: str, dry_run: str) -> int:
    if decision.plan is not None and decision.stall is None:
        for part in decision.policies:
            results.rows.setdefault(part, ("unchanged", ""))
    _print(decision.stall, results, output, dry_run)
    if decision.stall is not None:
        return _EXIT_CODES.get(decision.stall.reason, EXIT_USAGE)
    return EXIT_PARTIAL if results.failed else EXIT_OK


def _print(stall: Stall | None, results: Results, output: str, dry_run: str) -> None:
    rows = sorted(results.rows.items())
    if output != "text":
        data = {
            "stalled": {"reason": str(stall.reason), "message": stall.message} if stall else None,
            "policies": [{"name": name, "result": result, "message": said} for name, (result, said) in rows],
        }
        click.echo(to_json(data) if output == "json" else to_yaml([data]), nl=False)
        return
    suffix = f" ({dry_run} dry run)" if dry_run != "none" else ""
    if rows:
        lines = ((f"ttdp/{name}", f"{result}{suffix}", said) for name, (result, said) in rows)
        click.echo("\n".join(table([("POLICY", "RESULT", "WHY"), *lines])))
    if stall is not None:
        click.echo(f"nothing applied: {stall.reason}: {stall.message}", err=True)
