"""`ttfleet hollow`: plays the nodes of a sandbox's control plane; its subcommands tell them what to do."""

import asyncio
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from reconciler.commands.cluster import default_directory
from reconciler.commands.errors import EXIT_TIMEOUT, EXIT_USAGE, Failure
from reconciler.report import logs
from reconciler.sandbox.errors import SandboxError, SandboxTimeoutError

if TYPE_CHECKING:
    from reconciler.sandbox.kubelet.control import HollowControl

PLANE_LOOK_S = 2.0
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What to play. `installed` is a version and, after `@`, the commit it was built from."""

    plane: Path
    hosts: Path
    nodes: int
    prefix: str
    cards: int
    profile: str
    labels: tuple[str, ...]
    installed: str
    backoff_s: float


@click.group(invoke_without_command=True)
@click.option(
    "--plane",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Directory of the control plane.  [default: that of `ttfleet cluster`]",
)
@click.option(
    "--hosts",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Where the fake hosts lie.  [default: PLANE/hosts]",
)
@click.option("--nodes", type=click.IntRange(0), default=0, help="Make so many, named PREFIX1, PREFIX2 ...")
@click.option("--prefix", default="node-", show_default=True, help="Beginning of their names.")
@click.option("--cards", type=click.IntRange(0), default=2, show_default=True, help="Cards a node.")
@click.option("--profile", default="debian13", show_default=True, help="Distribution of new hosts.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="Label of each node; repeatable.")
@click.option(
    "--installed",
    default="",
    metavar="X.Y.Z[@COMMIT]",
    help="Version that new hosts run already, mode container.",
)
@click.option("--backoff-s", default=10.0, show_default=True, help="First CrashLoopBackOff.")
@click.pass_context
def command(ctx: click.Context, /, plane: Path | None, hosts: Path | None, **more: object) -> None:
    """Hollow nodes: kubelets with fake hosts, against a real control plane. Runs until SIGTERM or Ctrl-C.

    Nodes that lie in the hosts directory start again; --nodes adds what is missing.
    """
    place = plane or default_directory()
    options = Options(plane=place, hosts=hosts or place / "hosts", **more)  # type: ignore[arg-type]
    ctx.obj = options
    if ctx.invoked_subcommand is None:
        logs.set_up(level=logging.WARNING)
        with _failures():
            asyncio.run(_play(options))


@command.command("list")
@click.pass_obj
def list_nodes(options: Options) -> None:
    """List the nodes and whether their kubelet is up."""
    for name, up in _control(options, lambda it: it.nodes()).items():
        click.echo(f"{name}  {'up' if up else 'down'}")


@command.command()
@click.argument("node")
@click.option("--down-s", default=1.0, show_default=True)
@click.pass_obj
def reboot(options: Options, node: str, down_s: float) -> None:
    """Reboot NODE: containers, module and holders are gone."""
    _control(options, lambda it: it.reboot(node, down_s=down_s))


@command.command()
@click.argument("node")
@click.pass_obj
def power_off(options: Options, node: str) -> None:
    """Cut the power of NODE until `return`."""
    _control(options, lambda it: it.power_off(node))


@command.command(short_help="Silence the kubelet of NODE until `return`.")
@click.argument("node")
@click.pass_obj
def vanish(options: Options, node: str) -> None:
    """Let the kubelet of NODE fall silent until `return`; containers run on."""
    _control(options, lambda it: it.vanish(node))


@command.command("return")
@click.argument("node")
@click.pass_obj
def come_back(options: Options, node: str) -> None:
    """Bring NODE back after `vanish` or `power-off`."""
    _control(options, lambda it: it.come_back(node))


@command.command(short_help="Let a tool of NODE's host fail, or work again.")
@click.argument("node")
@click.argument("verb")
@click.argument("error", required=False)
@click.option("--times", type=int, default=None, help="Only so often.")
@click.pass_obj
def fail(options: Options, node: str, verb: str, error: str | None, times: int | None) -> None:
    """Let a tool of NODE's host fail (insmod EINVAL, rmmod EBUSY, make ...); without ERROR it is whole again."""
    _control(options, lambda it: it.host(node).fail(verb, error, times=times))


@command.command(short_help="Let a process of NODE's host hold the device.")
@click.argument("node")
@click.argument("holder")
@click.option("--pid", default=4242, show_default=True)
@click.pass_obj
def hold(options: Options, node: str, holder: str, pid: int) -> None:
    """Let a process of NODE's host, outside all pods, hold the device."""
    if not _control(options, lambda it: it.host(node).hold(holder, pid)):
        raise Failure(f"{node} has no device to hold: no module is loaded")


@command.command()
@click.argument("node")
@click.argument("holder")
@click.pass_obj
def release(options: Options, node: str, holder: str) -> None:
    """End what `hold` began."""
    _control(options, lambda it: it.host(node).release(holder))


async def _play(options: Options) -> None:
    from reconciler.sandbox.hosts.machine import FakeHost  # noqa: PLC0415  0.4 s that the subcommands need not pay
    from reconciler.sandbox.kubelet.controlserver import ControlServer  # noqa: PLC0415
    from reconciler.sandbox.kubelet.machine import Settings  # noqa: PLC0415
    from reconciler.sandbox.kubelet.nodes import HollowNodes  # noqa: PLC0415
    from reconciler.sandbox.plane import Plane  # noqa: PLC0415

    plane = Plane.open(options.plane)
    version, _, commit = options.installed.partition("@")
    labels = dict(label.partition("=")[::2] for label in options.labels)

    def prepare(host: FakeHost) -> None:
        if version:
            host.install_container(version, commit or None)

    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    settings = Settings(backoff_base_s=options.backoff_s)
    async with HollowNodes(plane, options.hosts, settings) as nodes:
        await nodes.resume()
        digits = len(str(options.nodes))  # so that names sort as numbers do
        wanted = [f"{options.prefix}{number:0{digits}}" for number in range(1, options.nodes + 1)]
        await asyncio.gather(
            *(
                nodes.add(name, labels=labels, cards=options.cards, profile=options.profile, prepare=prepare)
                for name in wanted
                if name not in nodes.nodes
            )
        )
        async with ControlServer(nodes):
            click.echo(f"{len(nodes.nodes)} hollow nodes Ready")
            await _wait(stopped, lambda: plane.identities["kube-apiserver"].alive)


async def _wait(stopped: asyncio.Event, plane_lives: Callable[[], bool]) -> None:
    """Until told to stop, or until there is no API server to play for."""
    while not stopped.is_set():
        try:
            await asyncio.wait_for(stopped.wait(), PLANE_LOOK_S)
        except TimeoutError:
            if not plane_lives():
                raise SandboxError("the control plane has ended, and so have its nodes") from None


def _control(options: Options, ask: Callable[["HollowControl"], Answer]) -> Answer:
    from reconciler.sandbox.kubelet.control import HollowControl  # noqa: PLC0415  see below

    with _failures():
        return ask(HollowControl(options.hosts))


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except SandboxTimeoutError as error:
        raise Failure(str(error), EXIT_TIMEOUT) from error
    except SandboxError as error:
        raise Failure(str(error), EXIT_USAGE) from error
