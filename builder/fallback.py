"""The way back: a verified copy of the very module that is in memory, saved before anything is changed (host.md, rule 9)."""

from builder import kernel
from builder.context import Stopped
from builder.host import Host
from builder.modules import Image, backed_up, by_source, describe, installed, save, unrecorded_cached
from schema.states import Reason


def save_loaded(host: Host) -> Image | None:
    """Copy the file whose srcversion is the loaded module's into the backup; None where nothing is loaded.

    Memory and disk may differ: after a package upgrade without a reload the file at the usual place is another version.

    Raises:
        Stopped: NoFallback: no such file is on this machine.
    """
    loaded = kernel.loaded(host)
    if loaded is None:
        return None
    release = kernel.release(host)
    if image := backed_up(host, release, loaded.srcversion):
        return image
    if image := by_source(host, release, loaded.srcversion):
        return save(host, host.data(image.path), image.module)
    data = unrecorded_cached(host, release, loaded.srcversion) or installed(host, release, loaded.srcversion)
    if data is None:
        raise Stopped(
            Reason.NO_FALLBACK,
            f"no file on this machine is the loaded {loaded.version} ({loaded.srcversion}): stage that version first",
        )
    return save(host, data, describe(data, kernel=release, build_id=kernel.build_id(host), commit=None))
