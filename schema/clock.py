"""RFC 3339 in and out; every layer keeps time as POSIX seconds (float, UTC)."""

from datetime import UTC, datetime


def parse_rfc3339(text: str) -> float:
    """Seconds since the epoch.

    Raises:
        ValueError: `text` is no RFC 3339 time with an offset.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset")
    return moment.timestamp()


def format_rfc3339(seconds: float) -> str:
    """Whole seconds in UTC, as the API server writes them: `2026-11-24T10:00:00Z`."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(text: str | None) -> float:
    """POSIX seconds of a stored time; 0 (long ago) for one that is missing or cannot be read."""
    try:
        return parse_rfc3339(text) if text else 0.0
    except ValueError:
        return 0.0
