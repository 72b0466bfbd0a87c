"""Every code of a problem in a fleet repository, once: what it means stands in docs/problem-codes.md (a test holds them equal).

0xx the file and its YAML, 1xx the document's schema, 2xx documents among each other, 3xx nodes and their pools, 4xx what
a pool resolves to. A code is never used for something else.
"""

from enum import StrEnum


class Code(StrEnum):
    """Stable names for suppressions, searches and tests; the value is what people see."""

    REFUSED = "TTF001"
    NOT_UTF8 = "TTF002"
    BYTE_ORDER_MARK = "TTF003"
    CHARACTER = "TTF004"
    SYNTAX = "TTF005"
    TOO_DEEP = "TTF006"
    ANCHOR = "TTF007"
    TAG = "TTF008"
    MERGE_KEY = "TTF009"
    DUPLICATE_KEY = "TTF010"
    ODD_KEY = "TTF011"
    DIRECTIVE = "TTF012"
    EMPTY = "TTF013"
    NO_DOCUMENT = "TTF014"
    UNKNOWN_KIND = "TTF015"
    UNKNOWN_API_VERSION = "TTF016"
    TOO_MANY = "TTF017"

    UNKNOWN_FIELD = "TTF101"
    MISSING_FIELD = "TTF102"
    WRONG_TYPE = "TTF103"
    NOT_ALLOWED = "TTF104"
    NULL = "TTF105"
    NO_VERSION_TEXT = "TTF106"
    COMBINATION = "TTF107"

    DUPLICATE_NAME = "TTF201"
    SECOND_FLEET = "TTF202"
    WRONG_PLACE = "TTF203"
    NO_CLUSTER = "TTF204"
    REPEATED_WAVE = "TTF205"
    NO_CATCH_ALL = "TTF206"
    EARLY_CATCH_ALL = "TTF207"
    RESERVED_WAVE = "TTF208"
    LONG_NAME = "TTF209"
    DRIVER_LABEL = "TTF210"
    HOLD_WITHOUT_REASON = "TTF211"
    REVIEW_DUE = "TTF212"
    BLOCKED_RELEASE = "TTF213"

    TWO_POOLS = "TTF301"
    UNASSIGNED = "TTF302"
    EMPTY_WAVE = "TTF303"
    REPEATED_NODE = "TTF304"
    UNKNOWN_NODE = "TTF305"

    NO_VERSION = "TTF401"
    NO_RELEASE = "TTF402"
    NO_CHANNEL = "TTF403"
    SHARED_HOSTNAME = "TTF404"
    NAME_CLASH = "TTF405"
