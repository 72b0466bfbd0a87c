"""Verb `keep`: what active.json names is live after a boot, and the cluster knows the facts. It never unloads."""

from collections.abc import Callable
from dataclasses import replace
from threading import Event
from typing import Final

from builder import claim, kernel
from builder.active import Active, Marker, read_active, read_marker, write_marker
from builder.adoption import adopt
from builder.conclusion import conclude
from builder.context import Context
from builder.host import Host
from builder.journal import read_journal
from builder.loading import insert
from builder.lock import Busy, host_lock
from builder.modules import Image
from builder.modules import by_source as find
from builder.recovery import recover, with_build_id
from schema.states import Reason
from schema.transaction import Result
from schema.verdict import Verdict

VERB: Final = "keep"
READY: Final = "/run/ttfleet/ready"
LOAD_ATTEMPTS: Final = 3  # failed loads in one boot, after which it is the operator's to decide
INTERVAL_S: Final = 30.0


def keep_once(context: Context) -> Verdict:
    """One pass: recover, adopt or load under the lock; then readiness, then facts."""
    try:
        with host_lock(context.host, wait_s=0, sleep=context.clock.sleep):
            verdict = _keep(context)
    except Busy:
        verdict = _verdict("another verb is at work")
    _show_readiness(context.host)
    return replace(verdict, changed=claim.publish(context) or verdict.changed)


def is_ready(host: Host) -> bool:
    """The module that active.json names is live; where nothing is active there is nothing to wait for."""
    active, loaded = read_active(host), kernel.loaded(host)
    if active is None:
        return True
    return loaded is not None and loaded.srcversion == active.module.srcversion and kernel.is_live(host)


def keep_until(
    context: Context, stopped: Event, *, interval_s: float, say: Callable[[Verdict], None]
) -> None:
    """Pass after pass; a verdict is said when it differs from the one before. A pass is never broken off."""
    before = None
    while not stopped.is_set():
        verdict = conclude(context, VERB, keep_once)
        if (shown := replace(verdict, changed=False)) != before:
            say(verdict)
        before = shown
        stopped.wait(interval_s)


def _keep(context: Context) -> Verdict:
    host = context.host
    entry = read_journal(host).open
    if entry is not None:
        boot = kernel.boot_id(host)
        if entry.boot_id == boot and claim.stands(context, entry.id, boot):
            return _verdict(f"{entry.verb} {entry.id} is open, its worker finishes it")
        closed = recover(context, entry)
        if closed is None:
            message = (
                f"{entry.target.version} is live and does not serve; the worker of {entry.id} falls back"
            )
            return _failed(Reason.VERIFY_FAILED, message)
        return _verdict(f"recovered {entry.id}: {closed.result}", changed=True)
    if kernel.dkms_signals(host):
        return _verdict("DKMS owns the driver")
    active = read_active(host)
    if active is None:
        return _adopt(context)
    if kernel.loaded(host) is None:
        return _load(context, active)
    return _mark_live(context, active)


def _load(context: Context, active: Active) -> Verdict:
    """At most one successful load a boot: what a person unloads stays unloaded."""
    host, boot = context.host, kernel.boot_id(context.host)
    marker = read_marker(host, boot)
    if marker.live:
        return _failed(
            Reason.MODULE_REMOVED, f"{active.module.version} was live in this boot and has been unloaded"
        )
    if marker.attempts >= LOAD_ATTEMPTS:
        return _failed(
            Reason.LOAD_FAILED, f"{active.module.version} did not load in {LOAD_ATTEMPTS} attempts"
        )
    image, why = _loadable(host, active)
    if image is None:
        return _failed(Reason.PREFLIGHT_FAILED, why)
    context.log(f"insmod {image.path} ({active.module.version})")
    inserted = insert(host, image, active.parameters)
    if not inserted.ok:
        write_marker(host, boot, Marker(attempts=marker.attempts + 1))
        return _failed(Reason.LOAD_FAILED, inserted.message)
    write_marker(host, boot, Marker(live=True))
    with_build_id(context, image)
    return _verdict(f"loaded {active.module.version}", changed=True)


def _loadable(host: Host, active: Active) -> tuple[Image | None, str]:
    """The verified file of the active source for this very kernel, or why there is none."""
    release = kernel.release(host)
    image = find(host, release, active.module.srcversion)
    if image is None:
        return None, f"{active.module.version} is not staged for kernel {release}"
    if image.module.build_id not in {kernel.build_id(host), ""}:
        return None, f"{active.module.version} is staged for another build of {release}"
    for obstacle in kernel.obstacles(host, signed=image.info.signed):
        return None, obstacle.message
    return image, ""


def _adopt(context: Context) -> Verdict:
    loaded = kernel.loaded(context.host)
    if loaded is None or not loaded.srcversion:
        return _verdict("nothing to keep")
    if adopt(context) is None:
        return _verdict(f"{loaded.version} is loaded, but not from the cache: not adopted")
    return _verdict(f"adopted {loaded.version}", changed=True)


def _mark_live(context: Context, active: Active) -> Verdict:
    host, boot = context.host, kernel.boot_id(context.host)
    loaded = kernel.loaded(host)
    if loaded is None or loaded.srcversion != active.module.srcversion:
        found = loaded.version if loaded else "nothing"
        return _failed(Reason.VERIFY_FAILED, f"{found} is loaded, {active.module.version} is active")
    if read_marker(host, boot).live:
        return _verdict(f"{active.module.version} is live")
    write_marker(host, boot, Marker(live=True))
    return _verdict(f"{active.module.version} is live", changed=True)


def _show_readiness(host: Host) -> None:
    """A file for probes that only look: there exactly while `is_ready`."""
    if is_ready(host) == host.exists(READY):
        return
    if is_ready(host):
        host.write(READY, b"")
    else:
        host.remove(READY)


def _verdict(message: str, *, changed: bool = False) -> Verdict:
    return Verdict(verb=VERB, result=Result.OK, changed=changed, message=message)


def _failed(reason: Reason, message: str) -> Verdict:
    return Verdict(verb=VERB, result=Result.FAILED, changed=False, reason=str(reason), message=message)
