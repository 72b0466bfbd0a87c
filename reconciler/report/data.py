"""What `-o json` and `-o yaml` print: the same data that the text is made of."""

import json
from enum import StrEnum
from io import StringIO
from typing import Any


class Output(StrEnum):
    """Values of `-o`."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


def dump(data: Any, output: Output) -> str:
    """`data` (plain JSON values) as a document that ends with a newline; keys keep their order.

    Raises:
        ValueError: `output` is text, which is each verb's own.
    """
    match output:
        case Output.JSON:
            return json.dumps(data, indent=2) + "\n"
        case Output.YAML:
            from ruamel.yaml import YAML  # noqa: PLC0415  only where somebody asks for it

            writer = YAML(typ="safe", pure=True)
            writer.default_flow_style = False
            writer.sort_base_mapping_type_on_output = False
            stream = StringIO()
            writer.dump(data, stream)
            return stream.getvalue()
        case Output.TEXT:
            raise ValueError("text is written by the verb itself")
