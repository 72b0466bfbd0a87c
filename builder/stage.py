"""Verb `stage`: build and verify the target while the old module serves, so that the outage is rmmod and insmod only.

Nothing that serves is touched: the cache and the backup are written, and that under the host lock. The compiler runs
without it, or a keeper could not load at boot while a build runs.
"""

import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from builder import claim, kernel
from builder.adoption import adopt
from builder.compiling import choose_compiler, compile_module, headers
from builder.context import Context, Stopped
from builder.elf import NotAModule, read_module
from builder.fallback import save_loaded
from builder.host import Host
from builder.loading import wanted_parameters
from builder.lock import Busy, host_lock
from builder.modules import cached, describe, store
from builder.mounts import link_headers
from builder.recovery import with_build_id
from builder.source import check_out
from schema.facts import Staged
from schema.names import CACHE_DIRECTORY, UDEV_RULE
from schema.states import Reason
from schema.transaction import Result
from schema.verdict import Verdict

LOCK_WAIT_S: Final = 60.0
SPACE_BYTES: Final = 64 * 1024 * 1024
VERB: Final = "stage"
_VERSION: Final = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
_RULE: Final = f"udev-{UDEV_RULE.rpartition('/')[2]}"


def stage(context: Context) -> Verdict:
    """Have the target in the cache for the running and the next kernel, and the way back in the backup.

    Raises:
        Stopped: with the reason why the target cannot be had; the host is as it was, or has more in its cache.
    """
    settings, host = context.settings, context.host
    if not _VERSION.fullmatch(settings.version):
        raise Stopped(Reason.PREFLIGHT_FAILED, f"{settings.version!r} is no x.y.z", result=Result.FAILED)
    running = kernel.release(host)
    preflight(host)
    missing = [release for release in (running, *next_kernels(host)) if not _is_staged(context, release)]
    changed = _build(context, missing, running) if missing else False
    with _locked(context):
        image = cached(host, running, settings.version)
        if image is None:
            raise Stopped(Reason.PREFLIGHT_FAILED, "the cache lost the module", result=Result.FAILED)
        changed |= not image.module.build_id
        image = with_build_id(context, image)
        save_loaded(host)
        changed |= adopt(context) is not None  # the very source is live: nothing is left to swap
    wanted_parameters(
        host, image.info, kernel.parameters(host), context.log
    )  # its warnings belong into this log
    claim.publish(context)  # at once, so that the operator need not wait for the keeper
    message = f"{settings.version} is staged for {running}"
    return Verdict(verb=VERB, result=Result.OK, changed=changed, version=settings.version, message=message)


def preflight(host: Host) -> None:
    """What would make the load fail is found here, before anything is drained (host.md, rule 7).

    Raises:
        Stopped
    """
    for obstacle in kernel.obstacles(host):
        raise Stopped(obstacle.reason, obstacle.message, result=Result.FAILED)
    free = host.free_bytes(CACHE_DIRECTORY)
    if free < SPACE_BYTES:
        raise Stopped(Reason.NO_SPACE, f"{CACHE_DIRECTORY}: {free} bytes free", result=Result.FAILED)


def next_kernels(host: Host) -> tuple[str, ...]:
    """Installed kernels that a reboot may bring: what the boot links name, and the newest one."""
    installed = [name for name in host.names("/lib/modules") if host.exists(f"/boot/vmlinuz-{name}")]
    links = (host.resolve(link) for link in ("/vmlinuz", "/boot/vmlinuz") if host.exists(link))
    linked = {path.rpartition("vmlinuz-")[2] for path in links}
    newest = max(installed, key=_order, default="")
    running = kernel.release(host)
    later = {newest} if newest and _order(newest) > _order(running) else set()
    return tuple(sorted((linked & set(installed) | later) - {running}))


def _order(release: str) -> tuple[tuple[int, str], ...]:
    """Sorts 6.12.10 after 6.12.9."""
    return tuple((int(part or 0), text) for part, text in re.findall(r"(\d+)|(\D+)", release))


def _is_staged(context: Context, release: str) -> bool:
    """A verified file of the pinned commit for this build of this kernel."""
    image = cached(context.host, release, context.settings.version)
    if image is None or image.module.commit != context.settings.commit:
        return False
    running = release == kernel.release(context.host)
    return not running or image.module.build_id in {kernel.build_id(context.host), ""}


def _build(context: Context, releases: Sequence[str], running: str) -> bool:
    """Fetch once, build for each kernel. The running one must succeed; the others are only logged.

    Raises:
        Stopped
    """
    host, settings = context.host, context.settings
    if running in releases and headers(host, running) is None:
        message = f"/lib/modules/{running}/build leads to no headers"
        raise Stopped(Reason.HEADERS_MISSING, message, result=Result.FAILED)
    link_headers(host)
    changed = False
    with tempfile.TemporaryDirectory(prefix="ttfleet-") as name:
        sources = Path(name) / "source"
        sources.mkdir()
        context.log(f"fetching {settings.version} ({settings.commit[:12]}) from {settings.repository}")
        check_out(
            host,
            sources,
            repository=settings.repository,
            version=settings.version,
            commit=settings.commit,
        )
        for release in releases:
            try:
                changed |= _build_one(context, sources, Path(name) / release, release)
            except Stopped as stopped:
                if release == running:
                    raise
                context.log(f"not staged for {release}: {stopped.reason}: {stopped}")
    return changed


def _build_one(context: Context, sources: Path, directory: Path, release: str) -> bool:
    host = context.host
    build_directory = headers(host, release)
    if build_directory is None:
        raise Stopped(Reason.HEADERS_MISSING, f"no headers for {release}", result=Result.FAILED)
    compiler = choose_compiler(host, build_directory)
    context.log(f"building for {release} with {compiler}")
    shutil.copytree(sources, directory, ignore=shutil.ignore_patterns(".git"))
    data = compile_module(host, directory, build_directory, compiler=compiler, log=context.log)
    module = _checked(context, data, release)
    rule = directory / _RULE
    with _locked(context):
        store(host, data, module, rule=rule.read_bytes() if rule.is_file() else b"")
    context.log(
        f"staged {module.version} for {release}: srcversion {module.srcversion}, sha256 {module.sha256}"
    )
    return True


def _checked(context: Context, data: bytes, release: str) -> Staged:
    """The built file is what was asked for, for the very kernel that it was asked for."""
    running = release == kernel.release(context.host)
    build_id = (
        kernel.build_id(context.host) if running else ""
    )  # of a kernel that has not been booted: not known yet
    try:
        module = describe(data, kernel=release, build_id=build_id, commit=context.settings.commit)
    except NotAModule as error:
        raise Stopped(Reason.PREFLIGHT_FAILED, str(error), result=Result.FAILED) from error
    if module.version != context.settings.version:
        message = f"the source calls itself {module.version}, not {context.settings.version}"
        raise Stopped(Reason.SOURCE_MISMATCH, message, result=Result.FAILED)
    if not read_module(data).srcversion:
        raise Stopped(Reason.PREFLIGHT_FAILED, "the module has no srcversion", result=Result.FAILED)
    return module


class _locked:  # noqa: N801  reads as a statement
    """The host lock, with Busy as this verb's outcome."""

    def __init__(self, context: Context) -> None:
        self._lock = host_lock(context.host, wait_s=LOCK_WAIT_S, sleep=context.clock.sleep)

    def __enter__(self) -> None:
        try:
            self._lock.__enter__()
        except Busy as error:
            raise Stopped(Reason.HOST_BUSY, f"another verb holds {error}", result=Result.FAILED) from error

    def __exit__(self, *exception: object) -> None:
        self._lock.__exit__(None, None, None)
