"""Module files that we can vouch for: the cache that upstream knows, and our backup of what is loaded.

A file counts only with its record beside it (sha256, srcversion, kernel build id, source commit) and only while the
bytes still agree with that record. A `.ko` without a record is an upstream installation's: it may be adopted.
"""

import hashlib
import json
import lzma
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from builder.elf import ModuleInfo, NotAModule, read_module
from builder.host import Host, walk_files
from schema.facts import Staged
from schema.names import CACHE_DIRECTORY, MODULE, STATE_DIRECTORY, UDEV_RULE

BACKUP_DIRECTORY: Final = f"{STATE_DIRECTORY}/backup"
_RECORD: Final = "ttfleet.json"
_RULE: Final = UDEV_RULE.rpartition("/")[2]
_GZIP: Final = 31  # zlib: expect a gzip header


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A module file whose bytes agree with its record. `path` is the host's."""

    path: str
    module: Staged
    info: ModuleInfo


def cached_path(kernel: str, version: str) -> str:
    """Upstream's place: `/var/cache/tt-kmd/<kver>/<version>/tenstorrent.ko`."""
    return f"{CACHE_DIRECTORY}/{kernel}/{version}/{MODULE}.ko"


def describe(image: bytes, *, kernel: str, build_id: str, commit: str | None) -> Staged:
    """The record of a module file.

    Raises:
        NotAModule: it is none, or none of ours, or built for another kernel.
    """
    info = read_module(image)
    if info.name not in {MODULE, ""} or not info.version:
        raise NotAModule(f"module {info.name!r} version {info.version!r} is no {MODULE}")
    if info.kernel != kernel:
        raise NotAModule(f"built for kernel {info.kernel}, not {kernel}")
    return Staged(
        version=info.version,
        kernel=kernel,
        build_id=build_id,
        srcversion=info.srcversion,
        sha256=hashlib.sha256(image).hexdigest(),
        commit=commit,
    )


def store(host: Host, image: bytes, module: Staged, *, rule: bytes = b"") -> Image:
    """Put a module into the cache: the file first, then its record, each whole; the udev rule of its source beside it."""
    path = cached_path(module.kernel, module.version)
    if rule:
        host.write(_sibling(path, _RULE), rule)
    host.write(path, image)
    _write_record(host, _sibling(path, _RECORD), module)
    return Image(path=path, module=module, info=read_module(image))


def save(host: Host, image: bytes, module: Staged) -> Image:
    """Keep a copy of what is loaded, by kernel and srcversion: nothing that is staged later overwrites it."""
    path = f"{BACKUP_DIRECTORY}/{module.kernel}/{module.srcversion}.ko"
    host.write(path, image)
    _write_record(host, f"{path}.json", module)
    return Image(path=path, module=module, info=read_module(image))


def backed_up(host: Host, kernel: str, srcversion: str) -> Image | None:
    """The verified copy in the backup."""
    path = f"{BACKUP_DIRECTORY}/{kernel}/{srcversion}.ko"
    return _verified(host, path, f"{path}.json")


def annotate(host: Host, image: Image, *, build_id: str) -> Image:
    """Note the build id of a kernel that had not been booted yet when the file was built."""
    module = replace(image.module, build_id=build_id)
    record = (
        f"{image.path}.json" if image.path.startswith(BACKUP_DIRECTORY) else _sibling(image.path, _RECORD)
    )
    _write_record(host, record, module)
    return replace(image, module=module)


def udev_rule(host: Host, image: Image) -> bytes:
    """The rule that the module's source ships, b"" where it ships none."""
    return host.data(_sibling(image.path, _RULE))


def cached(host: Host, kernel: str, version: str) -> Image | None:
    """The verified module in the cache, None when there is none."""
    path = cached_path(kernel, version)
    return _verified(host, path, _sibling(path, _RECORD))


def all_cached(host: Host) -> tuple[Image, ...]:
    """Every verified module of the cache, sorted by (kernel, version)."""
    found = (
        cached(host, kernel, version)
        for kernel in host.names(CACHE_DIRECTORY)
        for version in host.names(f"{CACHE_DIRECTORY}/{kernel}")
    )
    return tuple(image for image in found if image is not None)


def by_source(
    host: Host, kernel: str, srcversion: str, images: Sequence[Image] | None = None
) -> Image | None:
    """The verified file of this source for this kernel: from the cache (`images`, if already read), else the backup."""
    for image in all_cached(host) if images is None else images:
        if image.module.kernel == kernel and image.module.srcversion == srcversion:
            return image
    return backed_up(host, kernel, srcversion)


def unrecorded_cached(host: Host, kernel: str, srcversion: str) -> bytes | None:
    """A file of this source in the cache that has no record of ours, as upstream leaves it."""
    paths = (cached_path(kernel, version) for version in host.names(f"{CACHE_DIRECTORY}/{kernel}"))
    return _first(host, paths, kernel, srcversion)


def installed(host: Host, kernel: str, srcversion: str) -> bytes | None:
    """A file of this source in the kernel's module tree, decompressed."""
    return _first(host, walk_files(host, f"/lib/modules/{kernel}", f"{MODULE}.ko"), kernel, srcversion)


def _first(host: Host, paths: Iterable[str], kernel: str, srcversion: str) -> bytes | None:
    for path in paths:
        image = _plain(host, path)
        try:
            info = read_module(image)
        except NotAModule:
            continue
        if info.srcversion == srcversion and info.kernel == kernel:
            return image
    return None


def _plain(host: Host, path: str) -> bytes:
    """Contents, decompressed by the name's suffix; b"" where that fails."""
    data = host.data(path)
    try:
        match path.rpartition(".")[2]:
            case "xz":
                return lzma.decompress(data)
            case "gz":
                return zlib.decompress(data, _GZIP)
            case _:
                return data
    except (lzma.LZMAError, zlib.error):
        return b""


def _verified(host: Host, path: str, record: str) -> Image | None:
    image = host.data(path)
    try:
        module = staged_from_json(json.loads(host.text(record)))
        info = read_module(image)
    except (KeyError, TypeError, ValueError):
        return None
    same = (hashlib.sha256(image).hexdigest(), info.version, info.srcversion, info.kernel)
    if same != (module.sha256, module.version, module.srcversion, module.kernel):
        return None
    return Image(path=path, module=module, info=info)


def staged_to_json(module: Staged) -> dict[str, str | None]:
    return {
        "version": module.version,
        "kernel": module.kernel,
        "buildID": module.build_id,
        "srcversion": module.srcversion,
        "sha256": module.sha256,
        "commit": module.commit,
    }


def staged_from_json(data: dict[str, str]) -> Staged:
    """Inverse of `staged_to_json`.

    Raises:
        KeyError, TypeError: not such a record.
    """
    return Staged(
        version=data["version"],
        kernel=data["kernel"],
        build_id=data["buildID"],
        srcversion=data["srcversion"],
        sha256=data["sha256"],
        commit=data["commit"],
    )


def _write_record(host: Host, path: str, module: Staged) -> None:
    host.write(path, json.dumps(staged_to_json(module), indent=1).encode())


def _sibling(path: str, name: str) -> str:
    return f"{path.rpartition('/')[0]}/{name}"
