"""Fake modules: real ELF files with `.modinfo` and a build id, so that the builder reads them as it reads real ones."""

import hashlib
import struct
from collections.abc import Mapping
from typing import Final

_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
PARAMETERS: Final = ("max_devices", "reset_limit")  # of the stub driver
FLAGS: Final = "SMP preempt mod_unload modversions"


def srcversion(sources: Mapping[str, bytes]) -> str:
    """Identifies C sources, as modpost's does: the same for every kernel and compiler."""
    digest = hashlib.sha256()
    for name in sorted(sources):
        if name.endswith((".c", ".h")):
            digest.update(name.encode() + b"\0" + sources[name] + b"\0")
    return digest.hexdigest()[:23].upper()


def build_module(*, version: str, kernel: str, source: str, compiler: str = "gcc-12") -> bytes:
    """The bytes of `tenstorrent.ko` as built from `source` (its srcversion) for `kernel`."""
    fields = [
        "license=GPL",
        f"version={version}",
        f"srcversion={source}",
        "alias=pci:v00001234d000011E8sv*sd*bc*sc*i*",
        "depends=",
        "name=tenstorrent",
        f"vermagic={kernel} {FLAGS} ",
        *(f"parmtype={name}:uint" for name in PARAMETERS),
    ]
    modinfo = b"".join(field.encode() + b"\0" for field in fields)
    note = _build_id_note(hashlib.sha1(modinfo + compiler.encode(), usedforsecurity=False).digest())
    return _elf({".modinfo": modinfo, ".note.gnu.build-id": note, ".text": compiler.encode() * 64})


def kernel_notes(kernel: str) -> bytes:
    """Contents of `/sys/kernel/notes`: a build id that is the release's own."""
    return _build_id_note(hashlib.sha1(kernel.encode(), usedforsecurity=False).digest())


def _build_id_note(identity: bytes) -> bytes:
    return struct.pack("<III", 4, len(identity), 3) + b"GNU\0" + identity


def _elf(sections: Mapping[str, bytes]) -> bytes:
    names = b"\0" + b"".join(name.encode() + b"\0" for name in [*sections, ".shstrtab"])
    body, rows = b"", [_SECTION.pack(*[0] * 10)]
    for name, data in [*sections.items(), (".shstrtab", names)]:
        offset = _HEADER.size + len(body)
        at = names.index(b"\0" + name.encode() + b"\0") + 1
        rows.append(_SECTION.pack(at, 3 if name == ".shstrtab" else 1, 0, 0, offset, len(data), 0, 0, 1, 0))
        body += data
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)
    table = _HEADER.size + len(body)
    numbers = (1, 62, 1, 0, 0, table, 0, _HEADER.size, 0, 0, _SECTION.size, len(rows), len(rows) - 1)
    return _HEADER.pack(identity, *numbers) + body + b"".join(rows)
