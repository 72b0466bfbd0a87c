"""Adoption: a loaded module that equals a file in the cache is ours from now on, without an unload."""

from builder import kernel
from builder.active import Active, Marker, read_active, write_active, write_marker
from builder.context import Context
from builder.host import Host
from builder.journal import read_journal
from builder.modules import Image, all_cached, describe, store, unrecorded_cached


def adopt(context: Context) -> Image | None:
    """Make what is loaded active; its commit stays unknown unless recorded. The host lock is held.

    Returns:
        None where something is active already, DKMS owns the driver, a verb is open, or no cached file is what is loaded.
    """
    host = context.host
    loaded = kernel.loaded(host)
    taken = read_active(host) is not None or kernel.dkms_signals(host) or read_journal(host).open
    if taken or loaded is None or not loaded.srcversion:
        return None
    image = _own(host, loaded.srcversion)
    if image is not None:
        write_active(host, Active(module=image.module, parameters=kernel.parameters(host)))
        write_marker(host, kernel.boot_id(host), Marker(live=True))
        context.log(f"adopted {loaded.version} from {image.path}")
    return image


def _own(host: Host, srcversion: str) -> Image | None:
    release = kernel.release(host)
    for image in all_cached(host):
        if (image.module.kernel, image.module.srcversion) == (release, srcversion):
            return image
    data = unrecorded_cached(host, release, srcversion)
    if data is None:
        return None
    module = describe(data, kernel=release, build_id=kernel.build_id(host), commit=None)
    return store(host, data, module)
