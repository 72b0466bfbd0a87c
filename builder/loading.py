"""insmod and rmmod with their surprises: races with udev, parameters, devices that do not appear."""

import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from builder import kernel
from builder.context import Clock
from builder.elf import ModuleInfo
from builder.host import Host
from builder.modules import Image, udev_rule
from schema.facts import Staged
from schema.names import DEVICE_DIRECTORY, MODULE, UDEV_RULE

INSMOD_TIMEOUT_S: Final = 120.0  # up to 2.8.0 probe brings chips out of a power state
TOOL_TIMEOUT_S: Final = 30.0
SETTLE_S: Final = 10.0  # for devtmpfs and udev to show the device nodes
UNLOAD_TRIES: Final = 3
POLL_S: Final = 0.25
WORLD_WRITABLE: Final = 0o666


@dataclass(frozen=True, slots=True, kw_only=True)
class Inserted:
    """What insmod said. `foreign`: a module of this name is loaded already (EEXIST), whichever it is."""

    ok: bool
    foreign: bool = False
    message: str = ""


def insert(host: Host, image: Image, parameters: Mapping[str, str]) -> Inserted:
    """Load a file with parameters, its declared dependencies first. insmod ignores modprobe.d (host fact 24)."""
    for name in image.info.depends:
        if not host.exists(f"/sys/module/{name}"):
            host.run(["modprobe", name], timeout_s=TOOL_TIMEOUT_S)
    words = [f"{name}={value}" for name, value in sorted(parameters.items())]
    done = host.run(["insmod", str(host.path(image.path)), *words], timeout_s=INSMOD_TIMEOUT_S)
    return Inserted(ok=done.ok, foreign="File exists" in done.err, message=done.said)


def unload(host: Host, clock: Clock) -> str:
    """Unload whatever is loaded, never by force. Returns "" when none is loaded afterwards, else what rmmod said."""
    message = ""
    for _ in range(UNLOAD_TRIES):
        if kernel.loaded(host) is None:
            return ""
        done = host.run(["rmmod", MODULE], timeout_s=INSMOD_TIMEOUT_S)
        if done.ok:
            return ""
        message = done.said
        clock.sleep(POLL_S)
    return "" if kernel.loaded(host) is None else message


def verify(host: Host, module: Staged, cards: tuple[str, ...], clock: Clock) -> str:
    """Is this source live and serving? Returns "" or what is wrong (host.md, rule 6).

    `cards` are PCI addresses that were served before; each must be served now. Others may come.
    """
    loaded = kernel.loaded(host)
    if loaded is None:
        return "no module is loaded"
    if (loaded.version, loaded.srcversion) != (module.version, module.srcversion):
        return f"loaded is {loaded.version} {loaded.srcversion}, not {module.version} {module.srcversion}"
    if not kernel.is_live(host):
        return "the module is not live"
    left = SETTLE_S
    while trouble := _devices(host, cards):
        if left <= 0:
            return trouble
        clock.sleep(POLL_S)
        left -= POLL_S
    return ""


def install_rule(host: Host, image: Image, log: Callable[[str], None]) -> None:
    """The udev rule that the module's source ships: on the disk and known to udev before insmod (host.md, rule 17)."""
    rule = udev_rule(host, image)
    if not rule or host.data(UDEV_RULE) == rule:
        return
    host.write(UDEV_RULE, rule)
    done = host.run(["udevadm", "control", "--reload"], timeout_s=TOOL_TIMEOUT_S)
    if not done.ok:
        log(f"udevadm control --reload: {done.said}")


def wanted_parameters(
    host: Host, info: ModuleInfo, present: Mapping[str, str], log: Callable[[str], None]
) -> dict[str, str]:
    """What a module is to be loaded with: the present values, overruled by modprobe's configuration.

    Those that it does not know are dropped with a warning: the kernel would ignore them silently.
    """
    wanted = {**present, **_configured(host)}
    dropped = sorted(set(wanted) - info.parameters)
    if dropped:
        log(f"{info.version} does not know the parameters {', '.join(dropped)}: they are dropped")
    return {name: value for name, value in wanted.items() if name in info.parameters}


def _configured(host: Host) -> dict[str, str]:
    """`options tenstorrent …` lines as modprobe sees them."""
    done = host.run(["modprobe", "-c"], timeout_s=TOOL_TIMEOUT_S)
    lines = (line.split() for line in done.out.splitlines())
    pairs = (word.partition("=") for words in lines if words[:2] == ["options", MODULE] for word in words[2:])
    return {name: value for name, found, value in pairs if found}


def _devices(host: Host, cards: tuple[str, ...]) -> str:
    bound = kernel.bound_cards(host)
    if missing := sorted(set(cards) - set(bound)):
        return f"cards {', '.join(missing)} are not bound to the driver"
    nodes = kernel.device_nodes(host)
    if len(nodes) < len(bound):
        return f"{len(nodes)} device nodes for {len(bound)} cards"
    return _permissions(host, nodes) if b'MODE="0666"' in host.data(UDEV_RULE) else ""


def _permissions(host: Host, nodes: tuple[str, ...]) -> str:
    for node in nodes:
        mode = stat.S_IMODE(host.path(f"{DEVICE_DIRECTORY}/{node}").stat().st_mode)
        if mode & WORLD_WRITABLE != WORLD_WRITABLE:
            return f"{DEVICE_DIRECTORY}/{node} has mode {mode:o}, the udev rule says 0666"
    return ""
