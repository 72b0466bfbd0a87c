"""What a plain (unquoted) YAML scalar is: the core schema of YAML 1.2, with less to guess.

`on`, `yes` and `12:30` are texts, as YAML 1.2 says. `010`, which YAML 1.1 reads as 8, `1_000` and `0x10` are numbers here, so that
a field for text asks for quotes and a field for a whole number asks for another spelling.
"""

import re
from typing import Final

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_NUMBER: Final = re.compile(
    r"[-+]?(\.[0-9_]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?|0[xob][0-9a-fA-F_]+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


def plain_value(token: str) -> str | int | float | bool | None:
    """The value of a plain scalar. A number that is no whole number in JSON's spelling comes as a float."""
    if token in _NULL:
        return None
    if token in _BOOLEANS:
        return _BOOLEANS[token]
    if _INTEGER.fullmatch(token):
        return int(token)
    if _NUMBER.fullmatch(token):
        return _float(token)
    return token


def _float(token: str) -> float:
    """Only its type matters: no field takes a fraction, and messages quote the token."""
    try:
        return float(token)
    except ValueError:
        return 0.5
