"""How every long-running process logs: `time level message key=value ...` for people, or one JSON object a line."""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

FORMATS: Final = ("text", "json")
#: fields that only programs miss where the line is read by people
_FOR_PROGRAMS: Final = {"phase": None, "outcome": "done"}
_TALKATIVE: Final = ("kopf", "aiohttp.access", "watchfiles")


def set_up(log_format: str = "text", *, verbose: bool = False, level: int = logging.INFO) -> None:
    """Log to stderr from now on.

    Args:
        log_format: of FORMATS.
        verbose: also what is routine.
        level: the least that others' loggers say.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("ttfleet").setLevel(logging.DEBUG if verbose else level)


class TextFormatter(logging.Formatter):
    """One line, and a traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            key: value
            for key, value in _fields_of(record).items()
            if key not in _FOR_PROGRAMS or _FOR_PROGRAMS[key] not in {None, value}
        }
        pairs = " ".join(f"{key}={_quoted(value)}" for key, value in fields.items())
        text = f"{_moment(record)} {record.levelname} {record.getMessage()}"
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{text} {pairs}".rstrip() + trace


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        data = {"at": _moment(record), "level": record.levelname, "does": record.getMessage()}
        if record.exc_info:
            data["trace"] = self.formatException(record.exc_info)
        return json.dumps(data | dict(_fields_of(record)))


def _moment(record: logging.LogRecord) -> str:
    """Milliseconds: two processes' lines are read side by side."""
    return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _fields_of(record: logging.LogRecord) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = getattr(record, "fields", {})
    return fields


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text) if not text or any(c in text for c in ' "=\n') else text
