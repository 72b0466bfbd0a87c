"""`ttfleet demo`: the main job on the sandbox, from a commit to loaded drivers and back."""

import asyncio
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from reconciler.commands.errors import EXIT_FINDINGS, EXIT_TIMEOUT, EXIT_USAGE, Failure
from reconciler.report.board import Change, Line, Screen, changes_table
from reconciler.sandbox.binaries import Binaries, find, find_or_build, kubernetes_version
from reconciler.sandbox.demo.board import Board
from reconciler.sandbox.demo.cast import Cast, cast
from reconciler.sandbox.demo.play import Act, Verdict, play
from reconciler.sandbox.errors import SandboxError, SandboxTimeoutError


@click.command("demo")
@click.option("--keep", is_flag=True, help="Leave everything running afterwards, for kubectl, until Ctrl-C.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where logs, certificates and fake hosts go (new or empty).  [default: a temporary one, removed at the end]",
)
def command(keep: bool, directory: Path | None) -> int:
    """Upgrade a fleet of 12 nodes by one commit, then revert it, on a real control plane with hollow nodes."""
    console = Console(highlight=False, soft_wrap=True)
    binaries = _binaries(console)
    begun = time.monotonic()
    with _place(directory) as place:
        try:
            verdict = asyncio.run(_run(console, binaries, place, keep=keep))
        except asyncio.CancelledError:  # SIGTERM: the same end as Ctrl-C
            raise KeyboardInterrupt from None
        except SandboxTimeoutError as error:
            raise Failure(str(error), EXIT_TIMEOUT) from error
        except SandboxError as error:
            raise Failure(str(error), EXIT_USAGE) from error
    console.print(f"{time.monotonic() - begun:.0f} s in all")
    return EXIT_FINDINGS if verdict.broken else 0


def _binaries(console: Console) -> Binaries:
    """What there is; while it has to be built first, the simulator has played the same commits already."""
    found = find()
    if found:
        return found
    from reconciler.commands import run  # noqa: PLC0415  the group imports its verbs lazily, we one of them

    console.print(
        f"The control plane (Kubernetes {kubernetes_version()}) has to be built once from its pinned sources: 5 to 10 "
        "minutes on two cores.\nUntil then, the same three commits in the simulator:\n"
    )
    run(["simulate"])
    console.print()
    return find_or_build()


@contextmanager
def _place(directory: Path | None) -> Iterator[Path]:
    if directory is None:
        made = Path(tempfile.mkdtemp(prefix="ttfleet-demo-"))
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)
        return
    if directory.exists() and any(directory.iterdir()):
        raise Failure(f"{directory} is not empty; the demo begins from nothing")
    directory.mkdir(parents=True, exist_ok=True)
    yield directory.absolute()


async def _run(console: Console, binaries: Binaries, place: Path, *, keep: bool) -> Verdict:
    interrupted = asyncio.Event()
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    console.print("starting a control plane, 12 hollow nodes, their workloads, reconciler and operator ...")
    async with cast(place, binaries) as players:
        with Screen(console) as screen:
            verdict = await play(
                players, lambda title, board: screen.show(title, _lines(board), board.message)
            )
        _close(console, verdict)
        if keep:
            _invite(console, players)
            loop.add_signal_handler(signal.SIGINT, interrupted.set)
            await interrupted.wait()
    return verdict


def _lines(board: Board) -> list[Line]:
    return [
        Line(
            node=row.node,
            wave=row.wave,
            version=row.version,
            state=row.state,
            reason=row.reason,
            unavailable=row.unavailable,
        )
        for row in board.rows
    ]


def _close(console: Console, verdict: Verdict) -> None:
    for act in verdict.acts:
        console.print()
        changes = _changes(act)
        if changes:
            console.print(changes_table(f"{act.title}: {act.took_s:.0f} s", changes))
        else:
            console.print(
                f"{act.title}: nothing changed on any of {len(act.after)} nodes ({act.took_s:.0f} s)"
            )
    console.print(
        f"\nmost nodes unavailable at once {verdict.most_unavailable}, budget {verdict.budget} "
        "(from the API server's audit log)"
    )
    for sentence in verdict.broken:
        console.print(f"NOT KEPT: {sentence}", style="bold red")


def _changes(act: Act) -> list[Change]:
    return [
        Change(
            node=row.node,
            wave=row.wave,
            before=act.before[row.node],
            after=row.version,
            outage_s=row.outage_s,
        )
        for row in act.after.values()
        if row.node in act.loads or row.node in act.cordoned
    ]


def _invite(console: Console, players: Cast) -> None:
    kubectl = find_or_build().path("kubectl")
    console.print(
        f"""
everything keeps running until Ctrl-C; in another shell:
  export KUBECONFIG={players.plane.kubeconfig}
  {kubectl} get fsync,ttdp
  {kubectl} get nodes -L driver.tenstorrent.com/install-mode,driver.tenstorrent.com/kmd-version
  {kubectl} -n tt-k8s-driver-manager-system logs -l driver.tenstorrent.com/cr --tail=20
  {sys.argv[0]} status
the fleet repository is {players.repository.tree}: edit, commit, git push"""
    )
