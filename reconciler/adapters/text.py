"""Bytes of a file as text whose lines every tool counts alike, with places that always lie inside the file."""

import re
from dataclasses import dataclass
from typing import Final

from reconciler.core.fleet.documents import Mark, Problem
from reconciler.core.fleet.problems import Code

_BOM: Final = b"\xef\xbb\xbf"
#: Controls; line ends that YAML counts and editors do not; marks that make a reviewer read something else than we do.
_FORBIDDEN: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff"
    "\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]|\r(?!\n)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A file: its bytes (UTF-8, without a byte order mark) and its lines."""

    file: str
    data: bytes
    lines: tuple[str, ...]

    def mark(self, line: int, column: int) -> Mark:
        """A place, counted from 0, as a Mark; what lies behind the end becomes the end."""
        if line >= len(self.lines):
            return Mark(file=self.file, line=len(self.lines), column=len(self.lines[-1]) + 1)
        return Mark(file=self.file, line=line + 1, column=min(column, len(self.lines[line])) + 1)

    def holds(self, part: str, line: int) -> bool:
        """Whether a line (from 0) contains `part`."""
        return line < len(self.lines) and part in self.lines[line]

    def at(self, line: int, column: int) -> str:
        """The character at a place that counts from 0, "" behind the end of its line."""
        return self.lines[line][column : column + 1] if line < len(self.lines) else ""


def read_text(file: str, data: bytes) -> tuple[Text | None, list[Problem]]:
    """Decode a file; None where it is no text that can be read without a doubt."""
    problems = []
    if data.startswith(_BOM):
        message = "the file begins with a byte order mark"
        problems.append(
            Problem(
                mark=Mark(file=file),
                code=Code.BYTE_ORDER_MARK,
                message=message,
                hint="save it as UTF-8 without BOM",
            )
        )
        data = data.removeprefix(_BOM)
    try:
        decoded = data.decode()
    except UnicodeDecodeError as error:
        return None, [*problems, _undecodable(file, data, error)]
    text = Text(file=file, data=data, lines=tuple(_lines(decoded)))
    if found := _FORBIDDEN.search(decoded):
        line = decoded.count("\n", 0, found.start())
        column = found.start() - (decoded.rfind("\n", 0, found.start()) + 1)
        problems.append(
            Problem(
                mark=text.mark(line, column),
                code=Code.CHARACTER,
                message=f"character U+{ord(found[0]):04X} ({_name(found[0])}) is not allowed",
                hint="remove it",
            )
        )
        return None, problems
    return text, problems


def _lines(decoded: str) -> list[str]:
    """Lines without their ends; a file that ends in a newline has no line behind it, an empty file has one."""
    lines = decoded.replace("\r\n", "\n").split("\n")
    return lines[:-1] if len(lines) > 1 and not lines[-1] else lines


def _undecodable(file: str, data: bytes, error: UnicodeDecodeError) -> Problem:
    start = data.rfind(b"\n", 0, error.start) + 1
    mark = Mark(
        file=file,
        line=data.count(b"\n", 0, error.start) + 1,
        column=len(data[start : error.start].decode()) + 1,
    )
    utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    what = (
        "the file is UTF-16"
        if utf16
        else f"byte 0x{data[error.start]:02X} at offset {error.start} is not UTF-8"
    )
    return Problem(mark=mark, code=Code.NOT_UTF8, message=what, hint="save the file as UTF-8")


def _name(character: str) -> str:
    match character:
        case "\0":
            return "NUL"
        case "\r":
            return "a carriage return without a newline"
        case _ if ord(character) < 0xA0:
            return "a control character"
        case "\u2028" | "\u2029":
            return "a line end that editors do not count"
        case "\ufeff":
            return "a byte order mark inside the file"
        case _:
            return "an invisible mark that reorders what a reviewer sees"
