"""The binaries of the control plane: found, or built once from pinned Go modules (`modules/*/go.{mod,sum}`).

No package index carries kube-apiserver, the Go module proxies do. go.sum holds the hash of every module, and the build
runs with `-mod=readonly`: a byte that differs from what was pinned ends it. One build takes 5 to 10 minutes on two cores;
an interrupted one continues where it was.
"""

import fcntl
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

from reconciler.sandbox import processes
from reconciler.sandbox.errors import SandboxError, SandboxTimeoutError
from reconciler.sandbox.golang import Go, find_go
from reconciler.sandbox.progress import Line, Progress, Report

ENV_ASSETS: Final = "KUBEBUILDER_ASSETS"
MODULES: Final = Path(__file__).parent / "modules"
#: binary -> (directory of MODULES, Go package), quickest first so that a broken set-up shows early
PACKAGES: Final = {
    "etcd": ("etcd", "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": ("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
    "kube-controller-manager": ("kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    "kube-scheduler": ("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler"),
    "kubectl": ("kubernetes", "k8s.io/kubernetes/cmd/kubectl"),
}
DISK_NEEDED_BYTES: Final = 6 * 2**30  # module cache 1.0, build cache 3.1, temporary files, binaries 0.35
BUILD_BOUND_S: Final = 3600.0
ATTEMPTS: Final = 3  # a download that breaks off is tried again; what came before it is kept
NETWORK_FAULT: Final = re.compile(
    rb"dial tcp|i/o timeout|connection re(set|fused)|TLS handshake|unexpected EOF|\b(429|50[0234]) [A-Z]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """A directory that holds all of `PACKAGES`."""

    directory: Path

    def path(self, name: str) -> Path:
        return self.directory / name


def kubernetes_version() -> str:
    """`v1.35.4`, from the pinned go.mod."""
    return _pinned("kubernetes", "k8s.io/kubernetes")


def find_or_build(report: Report | None = None, environment: Mapping[str, str] = os.environ) -> Binaries:
    """Binaries from `KUBEBUILDER_ASSETS`, else the user's cache, else built into that cache.

    Args:
        report: told of every step and, while one runs, twice a second; writes to stderr by default.
        environment: of the build; proxies and GOPROXY in it are honoured.

    Raises:
        SandboxError: no Go, no room, or the build failed; with the end of its log.
        SandboxTimeoutError: the build, or another process's build, exceeds `BUILD_BOUND_S`.
    """
    found = find(environment)
    if found:
        return found
    cache = cache_directory(environment)
    report = report or Line(sys.stderr)
    with _lock(cache, report):
        missing = [name for name in PACKAGES if not _executable(cache / "bin" / name)]
        for index, name in enumerate(missing, 1):
            count = Progress(what="building", subject=name, index=index, total=len(missing), elapsed_s=0.0)
            _build(name, cache, partial(_tell, report, count, time.monotonic()), environment)
    return Binaries(directory=cache / "bin")


def find(environment: Mapping[str, str] = os.environ) -> Binaries | None:
    """What there is without building. A `KUBEBUILDER_ASSETS` that lacks any (envtest's does) does not count."""
    places = [cache_directory(environment) / "bin"]
    if given := environment.get(ENV_ASSETS):
        places.insert(0, Path(given).absolute())
    for place in places:
        if all(_executable(place / name) for name in PACKAGES):
            return Binaries(directory=place)
    return None


def cache_directory(environment: Mapping[str, str]) -> Path:
    """`$XDG_CACHE_HOME/ttfleet/<Kubernetes version>-etcd-<etcd version>`."""
    base = Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute()
    etcd = _pinned("etcd", "go.etcd.io/etcd/server/v3").removeprefix("v")
    return base / "ttfleet" / f"{kubernetes_version()}-etcd-{etcd}"


def _tell(report: Report, progress: Progress, begun: float, what: str) -> None:
    report(replace(progress, what=what, elapsed_s=time.monotonic() - begun))


def _build(name: str, cache: Path, tell: Callable[[str], None], environment: Mapping[str, str]) -> None:
    """Build one binary into `cache/bin`; with the last one the caches go, before it appears."""
    workspace, target = cache / "build", cache / "bin"
    shutil.rmtree(cache / "trash", ignore_errors=True)
    go = find_go(minimum=(MODULES / "kubernetes" / "go.mod").read_text(encoding="ascii"))
    _check_disk(cache, resumed=workspace.exists())
    target.mkdir(parents=True, exist_ok=True)
    temporary = target / f".{name}.new"
    compile_package(name, temporary, go, workspace, tell, environment)
    if all(_executable(target / other) for other in PACKAGES if other != name):
        tell("clearing up after")
        _remove(workspace, cache / "trash")
    temporary.replace(target / name)
    tell("built")


def _remove(workspace: Path, trash: Path) -> None:
    """Out of the way first: Go would build with a module cache that is half gone, and fail."""
    workspace.rename(trash)
    shutil.rmtree(trash)


def compile_package(
    name: str,
    output: Path,
    go: Go,
    workspace: Path,
    tell: Callable[[str], None],
    environment: Mapping[str, str],
) -> None:
    """`go build` of one of `PACKAGES` into the file `output`, again where the network failed.

    Raises:
        SandboxError: it failed; with the end of its log.
    """
    module, package = PACKAGES[name]
    log = workspace / f"{name}.log"
    command = [str(go.binary), "build", f"-ldflags={_link_flags()}", "-o", str(output), package]
    for attempt in range(1, ATTEMPTS + 1):
        log.unlink(missing_ok=True)
        env = go.environment(environment, workspace)
        child = processes.start(f"go build {name}", command, log, env=env, cwd=MODULES / module)
        try:
            _follow(child, tell)
        finally:
            processes.stop([child], group=True)
        if child.process.returncode == 0:
            return
        if attempt == ATTEMPTS or not NETWORK_FAULT.search(log.read_bytes()):
            raise SandboxError(
                f"building {name} failed; the end of {log}:\n{processes.tail(log)}\n"
                "Run it again once that is cured: what was downloaded and compiled is kept."
            )


def _follow(child: processes.Child, tell: Callable[[str], None]) -> None:
    """Wait for the end of a build, telling of it."""
    deadline = time.monotonic() + BUILD_BOUND_S
    while child.process.poll() is None:
        tell("building")
        if time.monotonic() > deadline:
            raise SandboxTimeoutError(f"{child.name}: not done within {BUILD_BOUND_S:.0f} s; see {child.log}")
        time.sleep(0.5)


@contextmanager
def _lock(cache: Path, report: Report) -> Iterator[None]:
    """One process builds, the others wait for it and find its result."""
    cache.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    with (cache / "lock").open("ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                elapsed_s = time.monotonic() - begun
                report(Progress(what="waiting for", subject="another build", elapsed_s=elapsed_s))
                if elapsed_s > BUILD_BOUND_S:
                    raise SandboxTimeoutError(f"another process holds {cache / 'lock'}") from None
                time.sleep(0.5)
        yield  # closing the file releases the lock, and so does the death of this process


def _check_disk(cache: Path, *, resumed: bool) -> None:
    free_bytes = shutil.disk_usage(cache).free
    if free_bytes < DISK_NEEDED_BYTES and not resumed:
        raise SandboxError(
            f"building the control plane needs {DISK_NEEDED_BYTES >> 30} GiB for a while, {cache} has "
            f"{free_bytes / 2**30:.1f}: make room, set XDG_CACHE_HOME, or point {ENV_ASSETS} at existing binaries"
        )


def _link_flags() -> str:
    """Without a version the servers call themselves v0.0.0, and clients believe it."""
    version = kubernetes_version()
    major, minor, _ = version.removeprefix("v").split(".")
    stamp = "k8s.io/component-base/version"
    return f"-s -w -X {stamp}.gitVersion={version} -X {stamp}.gitMajor={major} -X {stamp}.gitMinor={minor}"


def _pinned(module: str, requirement: str) -> str:
    text = (MODULES / module / "go.mod").read_text(encoding="ascii")
    found = re.search(rf"^\t{re.escape(requirement)} (v\S+)", text, re.MULTILINE)
    if not found:
        raise SandboxError(f"{MODULES / module / 'go.mod'} does not pin {requirement}")
    return found[1]


def _executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
