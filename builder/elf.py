"""What a kernel module file says of itself, read from its ELF sections: the same for real and for fake modules.

`modinfo` would tell the same, but its kmod must know the file's compression, and the pod's may not.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_NOTE: Final = struct.Struct("<III")
_NOBITS: Final = 8
_GNU_BUILD_ID: Final = 3
_SIGNED: Final = b"~Module signature appended~\n"


class NotAModule(ValueError):  # noqa: N818  it says what the file is
    """The bytes are no whole 64-bit little-endian kernel module."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleInfo:
    """Fields of `.modinfo`, and whether a signature is appended.

    Attributes:
        kernel: first word of vermagic: the release that it was built for.
        parameters: names that `insmod` accepts.
        build_id: hex of the module's own GNU build id, "" where the compiler wrote none.
    """

    name: str
    version: str
    srcversion: str
    vermagic: str
    depends: tuple[str, ...]
    parameters: frozenset[str]
    build_id: str
    signed: bool

    @property
    def kernel(self) -> str:
        return self.vermagic.partition(" ")[0]


def read_module(image: bytes) -> ModuleInfo:
    """Parse a `.ko`.

    Raises:
        NotAModule: truncated, no ELF of this kind, or without `.modinfo`.
    """
    sections = dict(_sections(image))
    if ".modinfo" not in sections:
        raise NotAModule("no .modinfo section")
    fields = _fields(sections[".modinfo"])
    single = {key: values[-1] for key, values in fields.items()}
    return ModuleInfo(
        name=single.get("name", ""),
        version=single.get("version", ""),
        srcversion=single.get("srcversion", ""),
        vermagic=single.get("vermagic", ""),
        depends=tuple(name for name in single.get("depends", "").split(",") if name),
        parameters=frozenset(text.partition(":")[0] for text in fields.get("parmtype", [])),
        build_id=note_build_id(sections.get(".note.gnu.build-id", b"")),
        signed=image.endswith(_SIGNED),
    )


def note_build_id(notes: bytes) -> str:
    """Hex of the GNU build id in a run of ELF notes (also `/sys/kernel/notes`); "" if there is none."""
    offset = 0
    while offset + _NOTE.size <= len(notes):
        name_size, size, kind = _NOTE.unpack_from(notes, offset)
        name_at = offset + _NOTE.size
        at = name_at + _padded(name_size)
        if kind == _GNU_BUILD_ID and notes[name_at : name_at + name_size] == b"GNU\0":
            return notes[at : at + size].hex()
        offset = at + _padded(size)
    return ""


def _padded(size: int) -> int:
    return (size + 3) & ~3


def _fields(modinfo: bytes) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    for entry in modinfo.split(b"\0"):
        key, found, value = entry.decode(errors="replace").partition("=")
        if found:
            fields.setdefault(key, []).append(value)
    return fields


def _sections(image: bytes) -> Iterator[tuple[str, bytes]]:
    """Yields (name, contents); raises NotAModule as soon as something lies outside the file."""
    try:
        header = _HEADER.unpack_from(image)
        if header[0][:6] != b"\x7fELF\x02\x01":
            raise NotAModule("no 64-bit little-endian ELF file")
        table, size, count, names_index = header[6], header[11], header[12], header[13]
        rows = [_SECTION.unpack_from(image, table + index * size) for index in range(count)]
        names = _contents(image, rows[names_index])
    except (struct.error, IndexError) as error:
        raise NotAModule("truncated") from error
    for row in rows:
        name = names[row[0] : names.index(b"\0", row[0])].decode(errors="replace")
        yield name, _contents(image, row)


def _contents(image: bytes, row: tuple[int, ...]) -> bytes:
    kind, offset, size = row[1], row[4], row[5]
    if kind == _NOBITS:
        return b""
    if offset + size > len(image):
        raise NotAModule("truncated")
    return image[offset : offset + size]
