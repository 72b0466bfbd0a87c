"""`ttfleet status`: where the fleet is, in one look."""

import asyncio
from typing import Any

import click

from reconciler.adapters.kube import ConnectError, Kube, Response
from reconciler.adapters.views import node_view, policy_view
from reconciler.commands.connection import connection_options
from reconciler.commands.errors import EXIT_USAGE, Failure
from reconciler.report.data import to_json, to_yaml
from reconciler.report.overview import Overview, overview_text
from reconciler.sync.server import NODES, POLICIES, SYNCS


@click.command("status")
@connection_options
@click.option(
    "-o", "--output", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True
)
def command(kubeconfig: str | None, context: str | None, output: str) -> None:
    """Show plan, waves, nodes at work, budgets and what is blocked."""
    try:
        overview = asyncio.run(look(kubeconfig, context))
    except ConnectError as error:
        raise Failure(str(error), EXIT_USAGE) from error
    match output:
        case "json":
            click.echo(to_json(overview.to_json()), nl=False)
        case "yaml":
            click.echo(to_yaml([overview.to_json()]), nl=False)
        case _:
            click.echo(overview_text(overview), nl=False)


async def look(kubeconfig: str | None, context: str | None) -> Overview:
    """Three lists.

    Raises:
        Failure: the server refuses one of them.
    """
    async with await Kube.connect(kubeconfig, context, user_agent="ttfleet-status") as kube:
        syncs, policies, nodes = await asyncio.gather(*(kube.list(path) for path in (SYNCS, POLICIES, NODES)))
        served = sorted(items(syncs, SYNCS), key=lambda sync: sync["metadata"]["creationTimestamp"])
        return Overview(
            sync=served[0] if served else None,
            policies=tuple(policy_view(policy) for policy in items(policies, POLICIES)),
            nodes=tuple(node_view(node) for node in items(nodes, NODES)),
        )


def items(answer: Response, path: str) -> list[dict[str, Any]]:
    if not answer.ok:
        raise Failure(f"{path}: {answer.message}", EXIT_USAGE)
    found: list[dict[str, Any]] = answer.body["items"]
    return found
