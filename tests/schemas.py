"""The published schemas of OpenLineage, and what they have against an event. Knows the files of respond/openlineage alone."""

import json
from functools import cache
from pathlib import Path

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource

SPEC = Path(__file__).parent / "respond/openlineage"


def facets(value):
    """Every facet, wherever it stands."""
    if isinstance(value, dict):
        yield from [value] if "_schemaURL" in value else []
        for inner in value.values():
            yield from facets(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from facets(inner)


@cache
def registry():
    known = [json.loads(path.read_text()) for path in SPEC.glob("*.json")]
    return Registry().with_resources((one["$id"], Resource.from_contents(one)) for one in known)


def complaints(event):
    """About the event as a whole and about each of its facets."""
    for address, one in [(event["schemaURL"], event), *((f["_schemaURL"], f) for f in facets(event))]:
        validator = Draft202012Validator({"$ref": address}, registry=registry(), format_checker=FormatChecker())
        yield from (error.message for error in validator.iter_errors(one))
