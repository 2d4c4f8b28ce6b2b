"""Makes the schemas beside it from a checkout of OpenLineage: `python reduce.py PATH/TO/OpenLineage`.

What decides whether an event is valid stays (types, required, patterns, formats, references); what people read goes.
"""

import json
import sys
from pathlib import Path
from typing import Any

_PROSE = ("description", "example", "examples", "title", "default")
_SCHEMAS = ("properties", "$defs", "patternProperties")  # below them, keys are names and no keywords


def reduced(schema: Any, names: bool = False) -> Any:
    if isinstance(schema, list):
        return [reduced(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if names or key not in _PROSE}
    return {key: value if key == "enum" else reduced(value, not names and key in _SCHEMAS) for key, value in kept.items()}


def main(checkout: Path, here: Path) -> None:
    spec = checkout / "spec"
    for path in (spec / "OpenLineage.json", *sorted((spec / "facets").glob("*.json"))):
        made = json.dumps(reduced(json.loads(path.read_text())), separators=(",", ":"), sort_keys=True)
        (here / path.name).write_text(made + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent)
