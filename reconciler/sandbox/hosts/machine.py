"""FakeHost: a machine as a directory tree with fake kernel tools, for hollow nodes and tests."""

import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

from builder.active import Active, Marker, write_active, write_marker
from builder.host import Host
from builder.modules import Image, describe, store
from reconciler.sandbox.hosts import packages, tools
from reconciler.sandbox.hosts.kernel import MODULE, Kernel
from reconciler.sandbox.hosts.koformat import build_module, kernel_notes, srcversion
from reconciler.sandbox.hosts.profiles import PROFILES
from reconciler.sandbox.hosts.source import source_files
from reconciler.sandbox.hosts.state import FAKE, State
from schema.names import ENV_HOST_BIN, ENV_HOST_ROOT, UDEV_RULE

FIRST_CARD: Final = 1  # PCI bus of the first card
HoldBy = Literal["fd", "map", "hidden"]


@dataclass(frozen=True, slots=True)
class FakeHost:
    """A fake machine below `root`. All of its state is in files there, so every process sees the same machine."""

    root: Path

    @classmethod
    def create(
        cls, root: Path, *, profile: str = "debian13", kernel: str | None = None, cards: int = 2
    ) -> Self:
        """Lay out a machine that has just booted: no module, no DKMS, headers and compiler of its distribution.

        Args:
            root: directory of the host's `/`; created.
            profile: debian12 | debian13 | ubuntu2204 | ubuntu2404.
            kernel: release that runs; None: the profile's own.
            cards: number of Tenstorrent cards.
        """
        machine = cls(root.resolve())
        release = kernel or PROFILES[profile].kernel
        with State(machine.root).change() as data:
            data.update(profile=profile, faults=[], holders={}, loads=0)
        _lay_out(machine.root, cards)
        machine.add_kernel(release)
        machine._boot(release)
        tools.install(machine.root, machine.bin)
        return machine

    @property
    def bin(self) -> Path:
        """Directory of its tools: what ENV_HOST_BIN names."""
        return self.root / FAKE / "bin"

    @property
    def host(self) -> Host:
        """The builder's view of it."""
        return Host(self.root, self.bin)

    @property
    def kernel(self) -> str:
        return Kernel(self.root).release

    @property
    def boot_id(self) -> str:
        return (self.root / "proc/sys/kernel/random/boot_id").read_text().strip()

    @property
    def loaded_version(self) -> str | None:
        """Version of the live module, None when there is none."""
        path = Kernel(self.root).sysfs / "version"
        return path.read_text().strip() if path.exists() else None

    @property
    def loads(self) -> int:
        """How often a module was loaded since the machine was made, whoever did it."""
        count: int = State(self.root).read()["loads"]
        return count

    def env(self) -> dict[str, str]:
        """The environment that makes a builder work on this machine."""
        return {ENV_HOST_ROOT: str(self.root), ENV_HOST_BIN: str(self.bin)}

    def add_kernel(self, release: str) -> None:
        """Install one more kernel with its headers; it does not run until a reboot into it."""
        _install_kernel(self.root, release, State(self.root).profile.compiler)

    def install_container(self, version: str, commit: str | None, *, live: bool = True) -> Image:
        """Bring the machine where a finished stage and swap of `version` would have left it.

        `commit` None is a machine that was adopted from an upstream installation. `live` False: as after a reboot,
        before the keeper has run.
        """
        host = self.host
        sources = source_files(version)
        data = build_module(version=version, kernel=self.kernel, source=srcversion(sources))
        build = kernel_notes(self.kernel)[16:].hex()
        module = describe(data, kernel=self.kernel, build_id=build, commit=commit)
        image = store(host, data, module, rule=sources["udev-50-tenstorrent.rules"])
        host.write(UDEV_RULE, sources["udev-50-tenstorrent.rules"])
        write_active(host, Active(module=module))
        if live:
            Kernel(self.root).load(data, {})
            write_marker(host, self.boot_id, Marker(live=True))
        return image

    def install_dkms(self, version: str) -> None:
        """Install package `tenstorrent-dkms`, as `dpkg -i` does: sources, registration, module files, loaded."""
        packages.install(self.root, version)

    def hold(self, holder: str, pid: int, how: HoldBy = "fd") -> bool:
        """Open device 0 in process `pid`: refcnt rises by one.

        Args:
            holder: unique name, also the process's `comm`.
            pid: of a fake process; it appears in the machine's /proc.
            how: a descriptor; a mapping whose descriptor is closed; or nothing that anybody can see (host fact 20).

        Returns:
            False where there is no device to open (ENOENT), as without a module.
        """
        device = self.root / "dev" / MODULE / "0"
        with State(self.root).change() as data:  # no unload meanwhile
            if not device.exists():
                return False
            data["holders"][holder] = {"pid": pid, "how": how}
            _start_process(self.root, holder, pid, how, device)
            Kernel(self.root).count_holders(len(data["holders"]))
        return True

    def release(self, holder: str) -> None:
        """Close it and end the process. An unknown holder is fine."""
        with State(self.root).change() as data:
            if gone := data["holders"].pop(holder, None):
                tools.remove_process(self.root, gone["pid"])
            Kernel(self.root).count_holders(len(data["holders"]))

    def reboot(self, kernel: str | None = None) -> None:
        """Power-cycle: new boot id, no module, no processes, empty /run; then udev decides, as at every boot.

        The keeper is the caller's to start.
        """
        with State(self.root).change() as data:
            data["holders"] = {}
        Kernel(self.root).disappear()
        for process in (self.root / "proc").glob("[0-9]*"):
            shutil.rmtree(process)
        shutil.rmtree(self.root / "run")
        (self.root / "run").mkdir()
        self._boot(kernel or self.kernel)
        Kernel(self.root).udev_add()

    def fail(
        self, verb: str, error: str | None, *, version: str | None = None, times: int | None = None
    ) -> None:
        """Let a tool fail, or be whole again.

        Args:
            verb: insmod, rmmod, make, or any other tool; `probe`: insmod succeeds but no device appears;
                `udev-reload`: an `add` event follows each rmmod.
            error: errno name (insmod, rmmod), else the message; None removes the verb's faults.
            version: only for this module version.
            times: how often; None: always.
        """
        with State(self.root).change() as data:
            data["faults"] = [fault for fault in data["faults"] if error is not None or fault["verb"] != verb]
            if error is not None:
                data["faults"].append({"verb": verb, "error": error, "version": version, "times": times})

    def commands(self) -> list[str]:
        """Every tool invocation so far, oldest first."""
        log = self.root / FAKE / "commands.log"
        return log.read_text().splitlines() if log.exists() else []

    def _boot(self, release: str) -> None:
        _write(
            self.root,
            {
                "proc/sys/kernel/random/boot_id": f"{uuid.uuid4()}\n",
                "proc/sys/kernel/osrelease": f"{release}\n",
            },
        )
        (self.root / "sys/kernel/notes").write_bytes(kernel_notes(release))


def _lay_out(root: Path, cards: int) -> None:
    _write(
        root,
        {
            "proc/cmdline": "root=/dev/vda1 ro quiet\n",
            "proc/sys/kernel/modules_disabled": "0\n",
            "sys/module/module/parameters/sig_enforce": "N\n",
            "sys/kernel/security/lockdown": "[none] integrity confidentiality\n",
            "var/lib/dpkg/status": "",
            "etc/modprobe.d/README": "",
        },
    )
    for directory in (
        "run",
        "dev",
        "etc/udev/rules.d",
        "etc/modules-load.d",
        "usr/src",
        "boot",
        "var/lib/dkms",
    ):
        (root / directory).mkdir(parents=True, exist_ok=True)
    for number in range(cards):
        card = f"sys/bus/pci/devices/0000:{number + FIRST_CARD:02x}:00.0"
        _write(
            root, {f"{card}/vendor": "0x1e52\n", f"{card}/device": "0xb140\n", f"{card}/class": "0x120000\n"}
        )


def _install_kernel(root: Path, release: str, compiler: int) -> None:
    headers = f"usr/src/linux-headers-{release}"
    _write(
        root,
        {
            f"{headers}/Makefile": "",
            f"{headers}/include/generated/utsrelease.h": f'#define UTS_RELEASE "{release}"\n',
            f"{headers}/include/config/auto.conf": f"CONFIG_GCC_VERSION={compiler}0200\nCONFIG_CC_IS_GCC=y\n",
            f"lib/modules/{release}/modules.dep": "",
            f"boot/vmlinuz-{release}": "",
        },
    )
    (root / "lib/modules" / release / "kernel").mkdir(exist_ok=True)
    link = root / "lib/modules" / release / "build"
    if not os.path.lexists(link):
        link.symlink_to(f"/{headers}")


def _start_process(root: Path, name: str, pid: int, how: HoldBy, device: Path) -> None:
    process = root / "proc" / str(pid)
    _write(process, {"comm": f"{name[:15]}\n", "cmdline": f"{name}\0", "maps": ""})
    (process / "fd").mkdir(exist_ok=True)
    if how == "fd" and not os.path.lexists(process / "fd/3"):
        (process / "fd/3").symlink_to(device)
    if how == "map":
        (process / "maps").write_text(f"7f0000000000-7f0000100000 rw-s 00000000 00:06 412  /dev/{MODULE}/0\n")


def _write(root: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
