"""What `-o json` and `-o yaml` print: the same data that the text is made of."""

import json
import re
from collections.abc import Iterable
from enum import StrEnum
from io import StringIO
from typing import Any, Final

YAML_1_1: Final = re.compile(r"[-+]?[0-9][0-9_:.,eExXa-fA-F+-]*|(?i:y|yes|n|no|on|off|true|false|null)")


class Output(StrEnum):
    """Values of `-o`."""

    TEXT = "text"
    JSON = "json"
    YAML = "yaml"


def dump(data: Any, output: Output) -> str:
    """`data` (plain JSON values) as one document that ends with a newline; keys keep their order.

    Raises:
        ValueError: `output` is text, which is each verb's own.
    """
    match output:
        case Output.JSON:
            return to_json(data)
        case Output.YAML:
            return to_yaml([data])
        case Output.TEXT:
            raise ValueError("text is written by the verb itself")


def to_json(data: Any) -> str:
    """Indented, with a newline at the end."""
    return json.dumps(data, indent=2) + "\n"


def to_yaml(documents: Iterable[Any]) -> str:
    """Documents in block style, separated by `---`; strings that kubectl would take for something else are quoted."""
    from ruamel.yaml import YAML, SafeRepresenter  # noqa: PLC0415  only where somebody asks for it

    class Representer(SafeRepresenter):  # type: ignore[misc]  # ruamel is untyped
        """Quotes what YAML 1.1 readers, kubectl among them, take for a boolean or a number."""

    def string(representer: Any, text: str) -> Any:
        style = "'" if YAML_1_1.fullmatch(text) else None
        return representer.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Representer.add_representer(str, string)
    writer = YAML(typ="safe", pure=True)
    writer.Representer = Representer
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False
    texts = []
    for document in documents:
        stream = StringIO()
        writer.dump(document, stream)
        texts.append(stream.getvalue())
    return "---\n".join(texts)
