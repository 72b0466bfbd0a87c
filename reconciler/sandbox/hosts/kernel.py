"""The fake kernel: loading, unloading, holders, devices and udev, on a directory tree, with the errors of a real one."""

import errno
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from builder.elf import ModuleInfo, NotAModule, read_module
from reconciler.sandbox.hosts.state import FAKE, State

MODULE: Final = "tenstorrent"
_SIGNATURE_REJECTED: Final = 129  # EKEYREJECTED, which the errno module of some platforms lacks
MAJORS: Final = (245, 243)  # a reload may move the dynamic major (host fact 22)


class Kernel:
    """One fake machine's kernel. Every method leaves the tree whole: a caller that dies does not tear it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = State(root)
        self.sysfs = root / "sys/module" / MODULE

    @property
    def release(self) -> str:
        return (self.root / "proc/sys/kernel/osrelease").read_text().strip()

    @property
    def loaded(self) -> bool:
        return self.sysfs.is_dir()

    def load(self, image: bytes, parameters: Mapping[str, str]) -> None:
        """`finit_module`.

        Raises:
            OSError: with the errno that a real kernel gives (host facts 18, 23, 26).
        """
        self._may_change_modules()
        info = self._accept(image)
        if (fault := self.state.fault("insmod", info.version)) is not None:
            raise OSError(getattr(errno, fault), os.strerror(getattr(errno, fault)))
        if self.loaded:
            raise OSError(errno.EEXIST, "File exists")
        if info.kernel != self.release:
            raise OSError(errno.EINVAL, "Invalid argument")
        probes = self.state.fault("probe", info.version) is None
        self._appear(info, parameters, cards=self._free_cards() if probes else [])

    def unload(self) -> None:
        """`delete_module`.

        Raises:
            OSError: EPERM, ENOENT, or EWOULDBLOCK while something holds the module.
        """
        self._may_change_modules()
        if not self.loaded:
            raise OSError(errno.ENOENT, f"Module {MODULE} is not currently loaded")
        if (fault := self.state.fault("rmmod", (self.sysfs / "version").read_text().strip())) is not None:
            raise OSError(getattr(errno, fault), os.strerror(getattr(errno, fault)))
        with self.state.change() as data:  # nobody opens the device meanwhile
            if data["holders"]:
                raise OSError(errno.EWOULDBLOCK, f"Module {MODULE} is in use")
            self.disappear()
        if self.state.fault("udev-reload") is not None:  # an `add` event right after rmmod (host fact 16)
            self.udev_add()

    def disappear(self) -> None:
        """Module, bindings and device nodes go."""
        gone = self.root / FAKE / "gone"
        shutil.rmtree(gone, ignore_errors=True)
        if self.loaded:
            self.sysfs.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
        for card in (self.root / "sys/bus/pci/drivers" / MODULE).glob("*:*"):
            card.unlink()
            (self.root / "sys/bus/pci/devices" / card.name / "driver").unlink(missing_ok=True)
        shutil.rmtree(self.root / "sys/bus/pci/drivers" / MODULE, ignore_errors=True)
        shutil.rmtree(self.root / "dev" / MODULE, ignore_errors=True)

    def udev_add(self) -> None:
        """An `add` event of a card: udev loads the module if depmod has indexed one for this kernel."""
        if self.loaded or (path := self.indexed(self.release)) is None:
            return
        with_errors_ignored = self.modprobe_parameters()
        try:
            self.load(read_compressed(path), with_errors_ignored)
        except OSError:
            return

    def indexed(self, kernel: str) -> Path | None:
        """The module file that `modules.dep` names, if it is still there."""
        directory = self.root / "lib/modules" / kernel
        try:
            lines = (directory / "modules.dep").read_text().splitlines()
        except OSError:
            return None
        names = (line.partition(":")[0] for line in lines)
        found = (directory / name for name in names if Path(name).name.startswith(f"{MODULE}.ko"))
        return next((path for path in found if path.exists()), None)

    def depmod(self, kernel: str) -> bool:
        """Index the module files of one kernel; False where there is no such kernel."""
        directory = self.root / "lib/modules" / kernel
        if not directory.is_dir():
            return False
        found = (path.relative_to(directory) for path in directory.rglob("*.ko*"))
        # a name that is there twice is taken from updates/, as depmod's default search order says
        order = sorted(found, key=lambda path: (path.parts[0] != "updates", path))
        names = {path.name.partition(".")[0]: path for path in reversed(order)}
        (directory / "modules.dep").write_text("".join(f"{path}:\n" for path in names.values()))
        return True

    def modprobe_parameters(self) -> dict[str, str]:
        """`options tenstorrent …` of modprobe's configuration."""
        pairs: dict[str, str] = {}
        for line in self.modprobe_configuration():
            words = line.split()
            if words[:2] == ["options", MODULE]:
                pairs.update(_pair(word) for word in words[2:])
        return pairs

    def modprobe_configuration(self) -> list[str]:
        """What `modprobe -c` prints of the files in modprobe.d."""
        places = ("lib/modprobe.d", "usr/lib/modprobe.d", "run/modprobe.d", "etc/modprobe.d")
        files = (path for place in places for path in sorted((self.root / place).glob("*.conf")))
        lines = (line.strip() for path in files for line in path.read_text().splitlines())
        return [line for line in lines if line and not line.startswith("#")]

    def count_holders(self, count: int) -> None:
        """Show the number of holders as `refcnt`."""
        if self.loaded:
            _put(self.sysfs / "refcnt", str(count))

    def _may_change_modules(self) -> None:
        if (self.root / "proc/sys/kernel/modules_disabled").read_text().strip() == "1":
            raise OSError(errno.EPERM, "Operation not permitted")

    def _accept(self, image: bytes) -> ModuleInfo:
        try:
            info = read_module(image)
        except NotAModule as error:
            raise OSError(errno.ENOEXEC, "Invalid module format") from error
        cmdline = (self.root / "proc/cmdline").read_text()
        if re.search(rf"\bmodule_blacklist=(\S+,)*{MODULE}(,|\s|$)", cmdline):
            raise OSError(errno.EPERM, "Operation not permitted")
        if (
            not info.signed
            and (self.root / "sys/module/module/parameters/sig_enforce").read_text().strip() == "Y"
        ):
            raise OSError(_SIGNATURE_REJECTED, "Key was rejected by service")
        return info

    def _free_cards(self) -> list[str]:
        """Cards without a driver; those on vfio-pci stay there."""
        devices = self.root / "sys/bus/pci/devices"
        return sorted(card.name for card in devices.iterdir() if not os.path.lexists(card / "driver"))

    def _appear(self, info: ModuleInfo, parameters: Mapping[str, str], *, cards: list[str]) -> None:
        self._bind(cards)
        new = self.root / FAKE / "coming"
        shutil.rmtree(new, ignore_errors=True)
        (new / "parameters").mkdir(parents=True)
        (new / "holders").mkdir()
        texts = {"version": info.version, "srcversion": info.srcversion, "refcnt": "0", "initstate": "live"}
        defaults = {"max_devices": "32", "reset_limit": "10"}
        known = {name: value for name, value in parameters.items() if name in info.parameters}
        for name, text in texts.items():
            _put(new / name, text)
        for name in info.parameters:
            _put(new / "parameters" / name, {**defaults, **known}.get(name, "0"))
        new.rename(self.sysfs)
        _put(self.root / FAKE / "loaded-by", str(os.getppid()))

    def _bind(self, cards: list[str]) -> None:
        driver = self.root / "sys/bus/pci/drivers" / MODULE
        driver.mkdir(parents=True, exist_ok=True)
        with self.state.change() as data:
            data["loads"] = data.get("loads", 0) + 1
            major = MAJORS[data["loads"] % len(MAJORS)]
        mode = 0o666 if (self.root / "etc/udev/rules.d/50-tenstorrent.rules").exists() else 0o600
        nodes = self.root / "dev" / MODULE
        nodes.mkdir(parents=True, exist_ok=True)
        for number, card in enumerate(cards):
            (driver / card).symlink_to(f"../../devices/{card}")
            (self.root / "sys/bus/pci/devices" / card / "driver").symlink_to(f"../../drivers/{MODULE}")
            _put(nodes / str(number), f"{major}:{number}")
            (nodes / str(number)).chmod(mode)


def _pair(word: str) -> tuple[str, str]:
    name, _, value = word.partition("=")
    return name, value


def read_compressed(path: Path) -> bytes:
    """A module file's bytes, decompressed as kmod would."""
    if path.suffix == ".xz":
        import lzma  # noqa: PLC0415  the tools start faster without it

        return lzma.decompress(path.read_bytes())
    return path.read_bytes()


def _put(path: Path, text: str) -> None:
    path.write_text(f"{text}\n")
