"""A fake `dkms` that lies as the real ones do: each lie was measured, the number is that of the host fact."""

import lzma
import shutil
from pathlib import Path
from typing import Final

from reconciler.sandbox.hosts.call import Call, ToolError
from reconciler.sandbox.hosts.kernel import MODULE, Kernel
from reconciler.sandbox.hosts.koformat import build_module, srcversion

ARCH: Final = "x86_64"
NOT_REGISTERED: Final = 3  # exit code of a remove of something that the tree does not know
SOURCE_MISSING: Final = 4


class Tree:
    """`/var/lib/dkms/tenstorrent`, `/usr/src/tenstorrent-*` and the module files that dkms installed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.kernel = Kernel(root)
        self.profile = self.kernel.state.profile
        self.top = root / "var/lib/dkms" / MODULE

    def source(self, version: str) -> Path:
        return self.root / "usr/src" / f"{MODULE}-{version}"

    def versions(self) -> list[str]:
        """Registered, whether the source is still there or not."""
        if not self.top.is_dir():
            return []
        return sorted(path.name for path in self.top.iterdir() if (path / "source").is_symlink())

    def dangling(self, version: str) -> bool:
        return not (self.source(version) / "dkms.conf").exists()

    def installed_file(self, kernel: str) -> Path:
        """`updates/dkms`, whatever dkms.conf says (9)."""
        return self.root / "lib/modules" / kernel / "updates/dkms" / f"{MODULE}{self.profile.suffix}"

    def add(self, version: str) -> None:
        (self.top / version).mkdir(parents=True, exist_ok=True)
        link = self.top / version / "source"
        if not link.is_symlink():
            link.symlink_to(f"/usr/src/{MODULE}-{version}")
        if self.profile.honest:  # 8: shared with other modules
            (self.root / "var/lib/dkms/mok.key").write_text("key\n")
            (self.root / "var/lib/dkms/mok.pub").write_text("pub\n")

    def build(self, version: str, kernel: str) -> bytes:
        sources = {path.name: path.read_bytes() for path in self.source(version).iterdir()}
        image = build_module(version=version, kernel=kernel, source=srcversion(sources))
        place = self.top / version / kernel / ARCH / "module"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{MODULE}.ko").write_bytes(image)
        return image

    def install(self, version: str, kernel: str) -> None:
        image = self.build(version, kernel)
        if self.profile.honest:  # 10
            for path in (self.root / "lib/modules" / kernel / "extra").glob(f"{MODULE}.ko*"):
                kept = self.top / "original_module" / kernel / ARCH
                kept.mkdir(parents=True, exist_ok=True)
                path.rename(kept / path.name)
        path = self.installed_file(kernel)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lzma.compress(image) if path.suffix == ".xz" else image)
        link = self.top / f"kernel-{kernel}-{ARCH}"
        link.unlink(missing_ok=True)
        link.symlink_to(f"{version}/{kernel}/{ARCH}")
        self.kernel.depmod(kernel)

    def remove(self, version: str) -> None:
        """Unregister a version whose source exists. `/usr/src` stays (11), the module in memory too (15)."""
        for kernel in self.kernels(version):
            link = self.top / f"kernel-{kernel}-{ARCH}"
            if link.is_symlink() and str(link.readlink()).startswith(f"{version}/"):
                link.unlink()
                self.installed_file(kernel).unlink(missing_ok=True)
                self._restore_original(kernel)
            self.kernel.depmod(kernel)
        shutil.rmtree(self.top / version)
        if not self.versions():
            shutil.rmtree(self.top)

    def kernels(self, version: str) -> list[str]:
        """Kernels that `version` was built for."""
        return sorted(path.name for path in (self.top / version).iterdir() if path.name != "source")

    def _restore_original(self, kernel: str) -> None:
        for path in (self.top / "original_module" / kernel / ARCH).glob(f"{MODULE}.ko*"):
            path.rename(self.root / "lib/modules" / kernel / "extra" / path.name)

    def all_kernels(self) -> list[str]:
        return sorted(path.name for path in (self.root / "lib/modules").iterdir())


def dkms(call: Call) -> str:
    """`dkms VERB tenstorrent/VERSION [-k KERNEL] [--all]`, also with `-m` and `-v`; `dkms status`."""
    tree = Tree(call.root)
    verb = call.operands()[0]
    if verb == "status":
        return _status(tree)
    version = _version(call)
    kernel = call.option("-k") or tree.kernel.release
    if verb == "remove":
        return _remove(tree, version)
    if not version or tree.dangling(version):
        raise ToolError(f"Error! Could not find module source directory {MODULE}-{version}.", 2)
    match verb:
        case "add":
            tree.add(version)
        case "build":
            tree.build(version, kernel)
        case "install":
            tree.add(version)
            tree.install(version, kernel)
        case _:
            raise ToolError(f"Error! Unknown action specified: {verb}")
    return ""


def _version(call: Call) -> str:
    named = next((word for word in call.operands() if word.startswith(f"{MODULE}/")), "")
    return named.partition("/")[2] or call.option("-v") or ""


def _remove(tree: Tree, version: str) -> str:
    if not version:  # 1: exits 1 and removes nothing; the seed hides it with `|| true`
        raise ToolError("Error! Arguments <module> and <module-version> are not specified.", 1)
    if version not in tree.versions():
        raise ToolError(
            f"Error! The module/version combo: {MODULE}-{version} is not located in the DKMS tree.",
            NOT_REGISTERED,
        )
    if tree.dangling(version):  # 3: removes nothing, and some say that all is well
        if tree.profile.honest:
            raise ToolError(
                f"Error! {MODULE}/{version} is broken! Missing the source directory.", SOURCE_MISSING
            )
        return ""
    tree.remove(version)
    return f"Module {MODULE}-{version} removed.\n"


def _status(tree: Tree) -> str:
    versions = tree.versions()
    if not tree.profile.honest and any(tree.dangling(version) for version in versions):
        return ""  # 4: one dangling entry, and there is nothing to see
    return "".join(line for version in versions for line in _status_lines(tree, version))


def _status_lines(tree: Tree, version: str) -> list[str]:
    if tree.dangling(version):
        return [f"{MODULE}/{version}: broken\n"]
    lines = []
    for kernel in tree.kernels(version):
        link = tree.top / f"kernel-{kernel}-{ARCH}"
        here = link.is_symlink() and str(link.readlink()).startswith(f"{version}/")
        lines.append(f"{MODULE}/{version}, {kernel}, {ARCH}: {'installed' if here else 'built'}\n")
    return lines or [f"{MODULE}/{version}: added\n"]
