"""`ttfleet run`: the reconciler process. Makes the cluster's policies follow the fleet repository, wave by wave."""

import asyncio
import os
import secrets
import signal
import socket
from dataclasses import replace
from pathlib import Path

import click

from reconciler.adapters.kube import ConnectError, Kube
from reconciler.commands.connection import connection_options
from reconciler.commands.errors import EXIT_USAGE, Failure
from reconciler.core.rollout.syncworld import SyncView
from reconciler.report import logs
from reconciler.sync.driver import Driver
from reconciler.sync.leader import Leader
from reconciler.sync.server import FleetServer
from schema.names import NAMESPACE_DEFAULT
from schema.sync import SyncMode, SyncSpec


def default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ttfleet"


@click.command("run")
@connection_options
@click.option("--namespace", default=NAMESPACE_DEFAULT, show_default=True, help="Of the Lease.")
@click.option(
    "--path",
    type=click.Path(file_okay=False, path_type=Path),
    help="Follow this directory instead of what the FleetSync names; enforces where there is no FleetSync.",
)
@click.option("--cluster", default="", help="Name of this cluster in --path, where it has several.")
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=default_cache,
    help="Directory for git caches; may be deleted at any time.  [default: $XDG_CACHE_HOME/ttfleet]",
)
@click.option(
    "--lease-seconds",
    type=click.FloatRange(2),
    default=10.0,
    show_default=True,
    help="Silence after which another reconciler takes over.",
)
@click.option("--single", is_flag=True, help="Take no Lease: this is the only reconciler.")
@click.option("--log-format", type=click.Choice(logs.FORMATS), default="text", show_default=True)
@click.option("--verbose", "-v", is_flag=True, help="Also routine status writes.")
def command(
    kubeconfig: str | None,
    context: str | None,
    namespace: str,
    path: Path | None,
    cluster: str,
    cache: Path,
    lease_seconds: float,
    single: bool,
    log_format: str,
    verbose: bool,
) -> None:
    """Follow the FleetSync of the cluster until SIGTERM or Ctrl-C."""
    logs.set_up(log_format, verbose=verbose)

    async def run() -> None:
        async with await Kube.connect(kubeconfig, context, user_agent="ttfleet-reconciler") as kube:
            driver = Driver(server=FleetServer(kube=kube), cache=cache)
            follow_path(driver.server, path, cluster)
            driver.server.heard = driver.heard
            if not single:
                identity = f"{socket.gethostname()}-{secrets.token_hex(4)}"  # unique per process start
                driver.leader = Leader(kube, namespace, identity, lease_seconds)
            stopping = asyncio.Event()
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, stopping.set)
            await driver.run(stopping)

    try:
        asyncio.run(run())
    except ConnectError as error:
        raise Failure(str(error), EXIT_USAGE) from error


def follow_path(server: FleetServer, path: Path | None, cluster: str) -> None:
    """Read a directory, whatever the FleetSync names; without a FleetSync enforce it."""
    if path is None:
        return
    spec = SyncSpec(path=str(path), cluster=cluster, mode=SyncMode.ENFORCE)
    server.standalone = SyncView(name="fleet", spec=spec)

    def override(served: SyncSpec) -> SyncSpec:
        return replace(served, url="", path=str(path), secret="", cluster=cluster or served.cluster)

    server.override = override
