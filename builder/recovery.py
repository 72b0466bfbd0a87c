"""An open journal entry is brought to an end: by the worker of its transaction, or, without unloading, by the keeper.

`resume` may unload and needs the claim. `recover` never unloads: it loads something where nothing is loaded, and
closes the entry by what is live then. Both may be killed at any point and started again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from builder import claim, kernel
from builder.active import Active, Marker, read_active, write_active, write_marker
from builder.context import Context
from builder.journal import Closed, Entry, Step, close_entry, open_entry
from builder.loading import insert, unload, verify
from builder.modules import Image, annotate, by_source
from schema.clock import format_rfc3339
from schema.facts import Staged
from schema.states import Reason
from schema.transaction import Result

RACES_LIMIT: Final = 5  # how often udev may load another module between our rmmod and insmod


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why a module did not come to serve. `untouched`: the one that was live before still is."""

    reason: Reason
    message: str
    untouched: bool = False


def resume(context: Context, entry: Entry) -> Closed:
    """Bring the target live; where that fails the fallback; close the entry. The claim must be ours."""
    if entry.step is not Step.FALLING_BACK:
        trouble, entry = _bring(context, entry, entry.target, entry.parameters, Step.LOADING)
        if trouble is None:
            return _commit(context, entry)
        if trouble.untouched:
            return _close(context, entry, Result.REFUSED, trouble.reason, trouble.message)
        context.log(f"{trouble.reason}: {trouble.message}")
        entry = replace(entry, step=Step.FALLING_BACK, reason=str(trouble.reason), message=trouble.message)
        open_entry(context.host, entry)
    return _fall_back(context, entry)


def recover(context: Context, entry: Entry) -> Closed | None:
    """End an entry against which no permit stands: after a reboot, or when its record has gone. Never unloads.

    Returns:
        None where only an unload could end it: the target is live and does not serve. While the transaction's record is
        on the node the entry then stays open for its next worker.
    """
    host = context.host
    if kernel.dkms_signals(host):
        return _close(context, entry, Result.FAILED, Reason.HOST_MANAGED_KMD, "DKMS has come back meanwhile")
    if kernel.loaded(host) is None:
        _load_any(context, entry)
    loaded = kernel.loaded(host)
    if loaded is None:
        return _recover_nothing(context, entry)
    if loaded.srcversion == entry.target.srcversion:
        return _recover_target(context, entry)
    if entry.fallback and loaded.srcversion == entry.fallback.srcversion:
        rebooted = entry.boot_id != kernel.boot_id(host)
        why = Reason(entry.reason or (Reason.REBOOTED if rebooted else Reason.VERDICT_LOST))
        return _roll_back(context, entry, entry.fallback, why)
    message = f"{loaded.version} {loaded.srcversion} is live, nobody asked for it"
    return _close(context, entry, Result.FAILED, Reason.VERIFY_FAILED, message)


def _recover_nothing(context: Context, entry: Entry) -> Closed:
    message = "neither module could be loaded"
    if entry.fallback is None or entry.boot_id != kernel.boot_id(
        context.host
    ):  # another reboot would not help
        return _close(context, entry, Result.FAILED, Reason.LOAD_FAILED, message)
    return _close(context, entry, Result.REBOOT_REQUIRED, Reason.REBOOT_REQUIRED, message)


def _recover_target(context: Context, entry: Entry) -> Closed | None:
    problem = entry.message if entry.step is Step.FALLING_BACK else ""
    problem = problem or verify(context.host, entry.target, entry.cards, context.clock)
    if not problem:
        return _commit(context, entry)
    if not claim.is_recorded(context, entry.id):
        return _close(context, entry, Result.FAILED, Reason.VERIFY_FAILED, problem)
    if entry.step is not Step.FALLING_BACK:
        reason = str(Reason.VERIFY_FAILED)
        open_entry(context.host, replace(entry, step=Step.FALLING_BACK, reason=reason, message=problem))
    return None


def _bring(
    context: Context, entry: Entry, module: Staged, parameters: Mapping[str, str], step: Step
) -> tuple[Trouble | None, Entry]:
    """Make `module` live and verified, unloading what is there. Returns the entry as journalled last."""
    host = context.host
    for _ in range(RACES_LIMIT):
        loaded = kernel.loaded(host)
        if loaded is not None and loaded.srcversion == module.srcversion:
            break
        if loaded is not None:
            context.log(f"rmmod {loaded.version}")
            if said := unload(host, context.clock):
                untouched = entry.fallback is not None and loaded.srcversion == entry.fallback.srcversion
                return Trouble(reason=Reason.UNLOAD_FAILED, message=said, untouched=untouched), entry
        if entry.step is not step:
            entry = replace(entry, step=step)
            open_entry(host, entry)
        image = by_source(host, kernel.release(host), module.srcversion)
        if image is None:
            message = f"{module.version} is not on this machine for this kernel"
            return Trouble(reason=Reason.LOAD_FAILED, message=message), entry
        context.log(f"insmod {image.path} ({module.version})")
        inserted = insert(host, image, parameters)
        if inserted.ok:
            break
        if not inserted.foreign:
            return Trouble(reason=Reason.LOAD_FAILED, message=inserted.message), entry
        context.log("another module was loaded first (udev)")
    if problem := verify(host, module, entry.cards, context.clock):
        return Trouble(reason=Reason.VERIFY_FAILED, message=problem), entry
    return None, entry


def _fall_back(context: Context, entry: Entry) -> Closed:
    reason = Reason(entry.reason or Reason.LOAD_FAILED)
    fallback = entry.fallback
    if fallback is None:  # nothing was loaded before: nothing is to be loaded afterwards
        said = unload(context.host, context.clock)
        result = Result.REBOOT_REQUIRED if said else Result.FAILED
        return _close(context, entry, result, reason, said or entry.message)
    trouble, entry = _bring(context, entry, fallback, entry.fallback_parameters, Step.FALLING_BACK)
    if trouble is not None:
        message = f"{entry.message}; then {fallback.version}: {trouble.message}"
        return _close(context, entry, Result.REBOOT_REQUIRED, Reason.REBOOT_REQUIRED, message)
    return _roll_back(context, entry, fallback, reason)


def _roll_back(context: Context, entry: Entry, fallback: Staged, reason: Reason) -> Closed:
    """The previous module is live: it is what is active, whatever had been written of the target."""
    host = context.host
    active = read_active(host)
    if active is None or active.module.srcversion != fallback.srcversion:
        write_active(host, Active(module=fallback, parameters=entry.fallback_parameters))
    write_marker(host, kernel.boot_id(host), Marker(live=True))
    return _close(context, entry, Result.ROLLED_BACK, reason, entry.message or "the previous module is live")


def _load_any(context: Context, entry: Entry) -> None:
    """Load the module that the entry was heading for, else the other one."""
    candidates = [(entry.target, entry.parameters)] if entry.step is not Step.FALLING_BACK else []
    if entry.fallback:
        candidates.append((entry.fallback, entry.fallback_parameters))
    for module, parameters in candidates:
        image = by_source(context.host, kernel.release(context.host), module.srcversion)
        if image is None:
            continue
        context.log(f"insmod {image.path} ({module.version})")
        inserted = insert(context.host, image, parameters)
        if inserted.ok or inserted.foreign:
            return
        context.log(f"insmod: {inserted.message}")


def _commit(context: Context, entry: Entry) -> Closed:
    """The target is live and verified: it is what is active from now on, and the entry is closed."""
    host = context.host
    image = by_source(host, kernel.release(host), entry.target.srcversion)
    module = with_build_id(context, image).module if image else entry.target
    write_active(host, Active(module=module, parameters=entry.parameters))
    write_marker(host, kernel.boot_id(host), Marker(live=True))
    return _close(context, entry, Result.OK, None, "")


def with_build_id(context: Context, image: Image) -> Image:
    """A module staged for a kernel that had not been booted then has been loaded by it now: note its build id."""
    if image.module.build_id:
        return image
    return annotate(context.host, image, build_id=kernel.build_id(context.host))


def _close(context: Context, entry: Entry, result: Result, reason: Reason | None, message: str) -> Closed:
    loaded = kernel.loaded(context.host)
    now = context.clock.now()
    touched = result is not Result.REFUSED
    known = loaded is not None and touched and entry.boot_id == kernel.boot_id(context.host)
    outage_s = round(now - entry.unloaded_at, 3) if known and entry.unloaded_at is not None else None
    closed = Closed(
        id=entry.id,
        at=format_rfc3339(now),
        result=result,
        changed=touched,
        version=loaded.version if loaded else None,
        reason=str(reason) if reason else None,
        message=message,
        outage_s=outage_s,
        boot_id=kernel.boot_id(context.host),
    )
    close_entry(context.host, closed)
    return closed
