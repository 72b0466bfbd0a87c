"""`ttfleet operator run`: the controller in the cluster. Brings every node to what its ttdp says, within the budgets."""

import asyncio
import logging
import os
import secrets
import socket

import click

from reconciler.adapters.kube import ConnectError, Kube
from reconciler.commands.connection import connection_options
from reconciler.commands.errors import EXIT_USAGE, Failure
from reconciler.core.world import Settings
from reconciler.operator.host import HostError, Ports, host
from reconciler.report import logs
from schema.names import DEPLOY_GATES, ENV_NODE_NAME, NAMESPACE_DEFAULT

EXIT_BROKEN = 1


@click.group("operator")
def command() -> None:
    """The controller in the cluster."""


def parse_release(text: str) -> tuple[str, tuple[str, str]]:
    """`VERSION=REPOSITORY@COMMIT`.

    Raises:
        click.BadParameter: it is something else.
    """
    version, equals, pin = text.partition("=")
    repository, at, commit = pin.rpartition("@")
    full = len(commit) == 40 and set(commit) <= set("0123456789abcdef")
    if not (version and equals and repository and at and full):
        raise click.BadParameter(f"{text!r} is not VERSION=REPOSITORY@COMMIT (40 hex digits)")
    return version, (repository, commit)


def _releases(
    _context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, tuple[str, str]]:
    return dict(parse_release(value) for value in values)


@command.command("run")
@connection_options
@click.option(
    "--namespace", default=NAMESPACE_DEFAULT, show_default=True, help="Of the pods, the keeper and the Lease."
)
@click.option("--image", required=True, help="Builder image.")
@click.option(
    "--release",
    "releases",
    multiple=True,
    callback=_releases,
    metavar="VERSION=REPO@COMMIT",
    help="Pin of a version, for ttdps without spec.source.",
)
@click.option(
    "--gate",
    "gates",
    multiple=True,
    default=DEPLOY_GATES,
    show_default=True,
    help="Deploy gate label that is false while a node is worked on.",
)
@click.option(
    "--max-staging", type=click.IntRange(1), default=10, show_default=True, help="Nodes that build at once."
)
@click.option(
    "--lease-seconds",
    type=click.FloatRange(2),
    default=15.0,
    show_default=True,
    help="Silence after which another operator takes over.",
)
@click.option(
    "--metrics-port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0: none."
)
@click.option("--liveness-port", type=click.IntRange(0, 65535), default=0, help="Serves /healthz. 0: none.")
@click.option("--bind-address", default="0.0.0.0", show_default=True, help="Of metrics and liveness.")  # noqa: S104
@click.option("--log-format", type=click.Choice(logs.FORMATS), default="text", show_default=True)
@click.option("--verbose", "-v", is_flag=True, help="Also routine: renewals, dry runs, statuses.")
def run(
    kubeconfig: str | None,
    context: str | None,
    namespace: str,
    image: str,
    releases: dict[str, tuple[str, str]],
    gates: tuple[str, ...],
    max_staging: int,
    lease_seconds: float,
    metrics_port: int,
    liveness_port: int,
    bind_address: str,
    log_format: str,
    verbose: bool,
) -> None:
    """Run until SIGTERM or Ctrl-C. Two at once are safe: the Lease says which of them starts nodes."""
    logs.set_up(log_format, verbose=verbose)
    settings = Settings(
        namespace=namespace,
        image=image,
        releases=releases,
        gates=gates,
        max_staging=max_staging,
        lease_duration_s=lease_seconds,
        lease_renew_s=lease_seconds / 3,
        own_node=os.environ.get(ENV_NODE_NAME, ""),
    )
    ports = Ports(address=bind_address, metrics=metrics_port, liveness=liveness_port)
    try:
        asyncio.run(_run(kubeconfig, context, settings, ports))
    except ConnectError as error:
        raise Failure(str(error), EXIT_USAGE) from error
    except HostError as error:
        logging.getLogger("asyncio").setLevel(
            logging.CRITICAL
        )  # kopf's tasks would repeat it below our message
        raise Failure(str(error), EXIT_BROKEN) from error
    except OSError as error:
        raise Failure(f"port {metrics_port}: {error.strerror}", EXIT_USAGE) from error


async def _run(kubeconfig: str | None, context: str | None, settings: Settings, ports: Ports) -> None:
    identity = f"{socket.gethostname()}-{secrets.token_hex(4)}"  # unique per process start
    async with await Kube.connect(kubeconfig, context, user_agent="ttfleet-operator", qps=100) as kube:
        logging.getLogger("ttfleet.operator").info("operator %s on %s", identity, kube.server)
        await host(kube, settings, identity, ports)
