"""`ttfleet render`: the TenstorrentDriverPolicies of a fleet directory, the same bytes for the same documents."""

from pathlib import Path

import click

from reconciler.commands.fleet import Fleet, open_fleet, refuse_faults
from reconciler.core.fleet.render import Manifest, group, manifest, name_clashes
from reconciler.core.fleet.waves import line_up
from reconciler.core.rollout.plan import opening_waves
from reconciler.report.data import to_json, to_yaml


@click.command("render")
@click.option(
    "--path",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="Directory of the fleet repository.",
)
@click.option("--cluster", help="Cluster to render for (where there are several).")
@click.option("--sync", default="fleet", show_default=True, help="Name of the FleetSync in the labels.")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
def command(path: Path, cluster: str | None, sync: str, output: str) -> None:
    """Print the policies of a cluster, every wave open."""
    manifests = [item.to_json() for item in rendered(open_fleet(path, cluster), sync)]
    if output == "json":
        click.echo(to_json({"apiVersion": "v1", "kind": "List", "items": manifests}), nl=False)
    else:
        click.echo(to_yaml(manifests), nl=False)


def rendered(fleet: Fleet, sync: str) -> tuple[Manifest, ...]:
    """Every policy by pool and rank; which waves are open is the cluster's business, not the repository's."""
    desired = fleet.desired()
    groups = [
        part for pool in desired.pools for part in group(pool, line_up(opening_waves(pool), pool.waves))
    ]
    refuse_faults(name_clashes(desired.pools, groups))
    return tuple(manifest(part, sync=sync, spec=part.spec(waiting=part.held)) for part in groups)
