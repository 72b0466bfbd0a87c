"""A fake `dpkg` and `apt-mark` for one package, `tenstorrent-dkms`: its states, its maintainer scripts, their surprises.

Numbers in comments are those of the measured host facts.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from reconciler.sandbox.hosts.call import Call, ToolError
from reconciler.sandbox.hosts.dkms import NOT_REGISTERED, SOURCE_MISSING, Tree
from reconciler.sandbox.hosts.kernel import MODULE, read_compressed
from reconciler.sandbox.hosts.source import source_files
from reconciler.sandbox.hosts.state import FAKE

PACKAGE: Final = "tenstorrent-dkms"
PURGE_TOLERATES_FROM: Final = (
    2,
    9,
    0,
)  # prerm of older versions fails where dkms does (5), and ignores `upgrade` (2)
_LOCKED: Final = 2
_SCRIPT_TIMEOUT_S: Final = 30.0


def install(root: Path, version: str) -> None:
    """`dpkg -i`: also an upgrade. Beats a hold (13)."""
    tree, before = Tree(root), _status(root)
    for name, data in source_files(version).items():
        path = tree.source(version) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    _set_status(root, "install ok installed", version)
    if before and before[1] and before[1] != version:
        _upgrade_from(tree, before[1])
    rule = root / "etc/udev/rules.d/50-tenstorrent.rules"
    rule.write_bytes(source_files(version)["udev-50-tenstorrent.rules"])
    _postinst(tree, version)


def dpkg(call: Call) -> str:
    """`-i FILE` (named tenstorrent-dkms_VERSION_all.deb), `--purge PACKAGE`, `-s PACKAGE`, `-l PACKAGE`, `--get-selections`."""
    if call.kernel.state.fault("dpkg-lock") is not None:  # 14
        raise ToolError("dpkg: error: dpkg frontend lock was locked by another process", _LOCKED)
    arguments = set(call.arguments)
    if "-i" in arguments:
        install(call.root, Path(call.operands()[-1]).name.split("_")[1])
        return ""
    if {"--purge", "-P"} & arguments:
        return _purge(call)
    return _show(call.root)


def apt_mark(call: Call) -> str:
    """`hold|unhold PACKAGE`."""
    verb = call.operands()[0]
    _, state, version = _parts(call.root)
    wanted = "hold" if verb == "hold" else ("install" if state == "installed" else "deinstall")
    _set_status(call.root, f"{wanted} ok {state}", version)
    return f"{PACKAGE} {'set on' if verb == 'hold' else 'was already not'} hold.\n"


def refuse_if_held(root: Path) -> None:
    """What apt does before an upgrade or an install, of a file too (13)."""
    if _parts(root)[0] == "hold":
        raise ToolError(
            f"E: Held packages were changed and -y was used without --allow-change-held-packages: {PACKAGE}",
            100,
        )


def _purge(call: Call) -> str:
    want, state, version = _parts(call.root)
    if state in {"not-installed", "config-files"} or not version:
        _set_status(call.root, f"{want if want == 'hold' else 'purge'} ok not-installed", "")
        return f"dpkg: warning: ignoring request to remove {PACKAGE} which isn't installed\n"
    tree = Tree(call.root)
    if (
        call.kernel.state.fault("dpkg-killed") is not None
    ):  # 14: modules.dep of the kernel in work stays stale
        for kernel in tree.all_kernels():
            tree.installed_file(kernel).unlink(missing_ok=True)
        _set_status(call.root, "purge ok half-configured", version)
        raise ToolError("", 137)
    _prerm(call, tree, version)
    shutil.rmtree(tree.source(version), ignore_errors=True)
    _set_status(call.root, "purge ok not-installed", "")
    return f"Removing {PACKAGE} ({version}) ...\nPurging configuration files for {PACKAGE} ({version}) ...\n"


def _prerm(call: Call, tree: Tree, version: str) -> None:
    """Runs `dkms remove`; what it says decides (5, 7)."""
    code = _dkms_remove(call, tree, version)
    if code == 0 or _number(version) >= PURGE_TOLERATES_FROM:
        return
    _set_status(call.root, "purge ok installed", version)
    if code == NOT_REGISTERED:  # 5: dpkg undoes by rerunning postinst, which builds and runs modprobe
        _postinst(tree, version)
    message = (
        f"dpkg: error processing package {PACKAGE} (--purge): prerm script returned error exit status {code}"
    )
    raise ToolError(message, 1)


def _dkms_remove(call: Call, tree: Tree, version: str) -> int:
    """Exit code of `dkms remove` as the script finds dkms: by PATH, so a shim on this host is used (6)."""
    found = shutil.which("dkms")
    own = call.root / FAKE / "bin/dkms"
    if found and call.root in Path(found).parents and Path(found) != own:
        command = [found, "remove", f"{MODULE}/{version}", "--all"]
        return subprocess.run(
            command, check=False, timeout=_SCRIPT_TIMEOUT_S, env=dict(os.environ)
        ).returncode
    if version not in tree.versions():
        return NOT_REGISTERED
    if tree.dangling(version):  # 7
        return SOURCE_MISSING if tree.profile.honest else 0
    tree.remove(version)
    return 0


def _postinst(tree: Tree, version: str) -> None:
    if not tree.dangling(version):
        tree.add(version)
        for kernel in tree.all_kernels() if tree.profile.all_kernels else [tree.kernel.release]:
            tree.install(version, kernel)
    path = tree.kernel.indexed(tree.kernel.release)
    if path and not tree.kernel.loaded:
        tree.kernel.load(read_compressed(path), tree.kernel.modprobe_parameters())


def _upgrade_from(tree: Tree, old: str) -> None:
    """Takes the old sources away; the old prerm ignored `upgrade`, so its registration dangles (2)."""
    if _number(old) >= PURGE_TOLERATES_FROM and old in tree.versions():
        tree.remove(old)
    shutil.rmtree(tree.source(old), ignore_errors=True)


def _show(root: Path) -> str:
    want, state, version = _parts(root)
    if not state:
        raise ToolError(f"dpkg-query: no packages found matching {PACKAGE}")
    letters = {"installed": "i", "not-installed": "n", "half-configured": "F", "config-files": "c"}
    return f"{want[0]}{letters[state]}  {PACKAGE}  {version}  all\n"


def _parts(root: Path) -> tuple[str, str, str]:
    """(wanted, state, version); all empty where dpkg has never heard of the package."""
    status = _status(root)
    if status is None:
        return "", "", ""
    words = status[0].split()
    return words[0], words[2], status[1]


def _status(root: Path) -> tuple[str, str] | None:
    """(Status, Version) of the stanza, None where there is none."""
    for stanza in (root / "var/lib/dpkg/status").read_text().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line)
        if fields.get("Package") == PACKAGE:
            return fields["Status"], fields.get("Version", "")
    return None


def _set_status(root: Path, status: str, version: str) -> None:
    path = root / "var/lib/dpkg/status"
    others = [
        stanza
        for stanza in path.read_text().split("\n\n")
        if stanza and f"Package: {PACKAGE}\n" not in stanza
    ]
    mine = f"Package: {PACKAGE}\nStatus: {status}\n" + (f"Version: {version}\n" if version else "")
    path.write_text("\n\n".join([*(stanza.rstrip("\n") for stanza in others), mine]))


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
