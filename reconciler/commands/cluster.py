"""`ttfleet cluster up|down|status`: a real control plane on loopback, in the background."""

import asyncio
import os
import shutil
from pathlib import Path

import click

from reconciler.commands.errors import EXIT_FINDINGS, EXIT_TIMEOUT, EXIT_USAGE, Failure
from reconciler.report.data import Output, dump
from reconciler.sandbox import background
from reconciler.sandbox.background import Condition, Status
from reconciler.sandbox.binaries import find
from reconciler.sandbox.errors import SandboxError, SandboxTimeoutError
from reconciler.sandbox.plane import Plane

directory_option = click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Where everything of it lies.  [default: $XDG_STATE_HOME/ttfleet/cluster]",
)
output_option = click.option(
    "-o", "--output", type=click.Choice([str(o) for o in Output]), default=str(Output.TEXT), show_default=True
)


@click.group()
def command() -> None:
    """A real Kubernetes control plane on loopback: etcd, API server, controller-manager, scheduler.

    No nodes: `ttfleet hollow` plays some. The first `up` builds the binaries if it finds none (5-10 minutes).
    """


@command.command()
@directory_option
@click.option(
    "--install", is_flag=True, help="Also install what the chart does: CRDs, accounts, roles, fence."
)
@output_option
def up(directory: Path | None, output: str, *, install: bool) -> None:
    """Start it, unless it runs; print the line for kubectl."""
    try:
        status = background.up(directory or default_directory())
        if install:
            asyncio.run(_install(Plane.open(status.directory)))
    except SandboxError as error:
        raise _failure(error) from error
    if Output(output) is not Output.TEXT:
        click.echo(dump(status.to_json(), Output(output)), nl=False)
        return
    where = "" if status.directory == default_directory() else f" --directory {status.directory}"
    click.echo(
        f"# {status.to_json()['version']} at {status.url}; end it with: ttfleet cluster down{where}", err=True
    )
    if not shutil.which("kubectl") and (found := find()):
        click.echo(f"# kubectl is {found.path('kubectl')}", err=True)
    click.echo(f"export KUBECONFIG={status.kubeconfig}")


@command.command()
@directory_option
def down(directory: Path | None) -> None:
    """End it and remove its directory; nothing to do is no error."""
    place = directory or default_directory()
    try:
        was_there = background.down(place)
    except SandboxError as error:
        raise _failure(error) from error
    click.echo(f"ended and removed {place}" if was_there else f"no control plane in {place}", err=True)


@command.command()
@directory_option
@output_option
def status(directory: Path | None, output: str) -> int:
    """Show each process; exit code 1 unless all run."""
    try:
        found = background.status(directory or default_directory())
    except SandboxError as error:
        raise _failure(error) from error
    text = _table(found) if Output(output) is Output.TEXT else dump(found.to_json(), Output(output))
    click.echo(text, nl=False)
    return 0 if found.condition is Condition.RUNNING else EXIT_FINDINGS


def default_directory() -> Path:
    """`$XDG_STATE_HOME/ttfleet/cluster`."""
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "ttfleet" / "cluster"


async def _install(plane: Plane) -> None:
    from reconciler.adapters.kube import Kube  # noqa: PLC0415  costs 0.4 s, only this needs it

    async with await Kube.connect(plane.kubeconfig) as kube:
        await plane.install(kube)


def _table(status: Status) -> str:
    if status.condition is Condition.ABSENT:
        return f"no control plane in {status.directory}; start one with `ttfleet cluster up`\n"
    rows = [("COMPONENT", "STATE", "PORT", "PID", "AGE", "LOG")]
    for part in status.components:
        age = "-" if part.age_s is None else f"{part.age_s:.0f}s"
        rows.append(
            (part.name, part.condition, str(part.port or "-"), str(part.pid or "-"), age, str(part.log))
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in rows
    ]
    if status.condition is Condition.RUNNING:
        lines += [f"API server  {status.url}", f"export KUBECONFIG={status.kubeconfig}"]
    else:
        lines.append(
            "it ended without `ttfleet cluster down`; `ttfleet cluster up` takes it up again, data included"
        )
    return "\n".join(lines) + "\n"


def _failure(error: SandboxError) -> Failure:
    return Failure(str(error), EXIT_TIMEOUT if isinstance(error, SandboxTimeoutError) else EXIT_USAGE)
