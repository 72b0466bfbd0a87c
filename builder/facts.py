"""HostFacts, read from the disk and from /sys, never from what dkms prints (host.md, rules 4 and 12).

They hold nothing that changes while a node is idle: no refcount, no holders, no clock.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from builder import kernel
from builder.active import Active, read_active
from builder.host import Host
from builder.journal import read_journal
from builder.modules import Image, all_cached, by_source
from schema.facts import HostFacts, HostMode, Staged
from schema.names import LABEL_INSTALL_MODE, LABEL_KMD_VERSION, STATE_DIRECTORY

DKMS_PACKAGE: Final = "tenstorrent-dkms"
DKMS_TREE: Final = "/var/lib/dkms/tenstorrent"
DPKG_STATUS: Final = "/var/lib/dpkg/status"
VACATED: Final = f"{STATE_DIRECTORY}/vacated.json"
LIMIT_BYTES: Final = 8192  # what the builder's admission policy lets through
RPM_TIMEOUT_S: Final = 20.0
_WANTED: Final = {"unknown": "u", "install": "i", "hold": "h", "deinstall": "r", "purge": "p"}
_STATES: Final = {
    "not-installed": "n",
    "config-files": "c",
    "half-installed": "H",
    "unpacked": "U",
    "half-configured": "F",
    "triggers-awaited": "W",
    "triggers-pending": "t",
    "installed": "i",
}


def read_facts(host: Host) -> HostFacts:
    """The facts of this moment."""
    journal = read_journal(host)
    active = read_active(host)
    signals = kernel.dkms_signals(host)
    images = all_cached(host)
    last = journal.closed[0] if journal.closed else None
    return HostFacts(
        boot_id=kernel.boot_id(host),
        kernel=kernel.release(host),
        build_id=kernel.build_id(host),
        mode=_mode(open_entry=journal.open is not None, signals=bool(signals), active=active is not None),
        loaded=kernel.loaded(host),
        active=_active_here(host, active, images) if active else None,
        staged=tuple(image.module for image in images),
        dkms_versions=_dkms_versions(host),
        dkms_package=_package(host),
        vacated=host.exists(VACATED),
        open_verb=journal.open.verb if journal.open else None,
        last_id=last.id if last else None,
        last_at=last.at if last else None,
        problems=tuple(sorted(str(obstacle.reason) for obstacle in kernel.obstacles(host))),
    )


def labels(facts: HostFacts) -> dict[str, str | None]:
    """The two labels that the facts imply; None removes. While a journal entry is open the mode stays as it is."""
    found: dict[str, str | None] = {LABEL_KMD_VERSION: facts.loaded.version if facts.loaded else None}
    match facts.mode:
        case HostMode.HOST | HostMode.CONTAINER:
            found[LABEL_INSTALL_MODE] = str(facts.mode)
        case HostMode.ABSENT:
            found[LABEL_INSTALL_MODE] = None
        case HostMode.TRANSITIONING:
            pass
    return found


def to_text(facts: HostFacts) -> str:
    """The annotation's value: one line, at most `LIMIT_BYTES`; staged modules of kernels that do not run go first."""
    while len(text := json.dumps(facts.to_json(), separators=(",", ":"))) > LIMIT_BYTES and facts.staged:
        others = [entry for entry in facts.staged if entry.kernel != facts.kernel]
        dropped = (others or facts.staged)[0]
        facts = replace(facts, staged=tuple(entry for entry in facts.staged if entry is not dropped))
    return text


def _mode(*, open_entry: bool, signals: bool, active: bool) -> HostMode:
    if open_entry:
        return HostMode.TRANSITIONING
    if signals:
        return HostMode.HOST
    return HostMode.CONTAINER if active else HostMode.ABSENT


def _active_here(host: Host, active: Active, images: Sequence[Image]) -> Staged:
    """The active source as built for the running kernel; as recorded (another kernel) where there is none yet."""
    image = by_source(host, kernel.release(host), active.module.srcversion, images)
    return image.module if image else active.module


def _dkms_versions(host: Host) -> tuple[str, ...]:
    """Registered or dangling: the directories of the tree. Links (`kernel-<release>-<arch>`) are no versions."""
    names = host.names(DKMS_TREE)
    return tuple(
        name for name in names if name[0].isdigit() and not host.path(f"{DKMS_TREE}/{name}").is_symlink()
    )


def _package(host: Host) -> str | None:
    """State and version as `dpkg -l` would show them, `ii 2.7.0`; from the status file, or else from rpm."""
    status = host.data(DPKG_STATUS)
    if not status:
        return _rpm(host)
    match = re.search(
        rb"(?:^|\n)Package: " + DKMS_PACKAGE.encode() + rb"\n(.*?)(?:\n\n|\Z)", status, re.DOTALL
    )
    if not match:
        return None
    stanza = match[1].decode(errors="replace")
    fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[0] != " ")
    want, _, state = [*fields.get("Status", "").split(), "", "", ""][:3]
    short = _WANTED.get(want, "?") + _STATES.get(state, "?")
    return " ".join(part for part in (short, fields.get("Version", "")) if part)


def _rpm(host: Host) -> str | None:
    if not any(host.exists(path) for path in ("/var/lib/rpm", "/usr/lib/sysimage/rpm")):
        return None
    done = host.run(["rpm", "-q", "--queryformat", "%{VERSION}", DKMS_PACKAGE], timeout_s=RPM_TIMEOUT_S)
    return f"ii {done.out.strip()}" if done.ok else None
