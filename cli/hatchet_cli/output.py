"""Objects as programs read them: JSON, YAML, or names as kubectl takes them."""

import json
import sys
from collections.abc import Iterable
from enum import StrEnum

import yaml

from hatchet_operator.resources.base import Json


class Format(StrEnum):
    """The values of ``-o``."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


def write_objects(objects: Iterable[Json], how: Format, *, as_list: bool) -> None:
    """Write objects to stdout, as kubectl does.

    Args:
        objects: As the API server has them.
        how: Any format but a table.
        as_list: Whether to write a list even if there is only one.
    """
    items = list(objects)
    if how is Format.NAME:
        sys.stdout.write("".join(f"{name_of(item)}\n" for item in items))
        return
    whole = {"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items} if as_list else items[0]
    if how is Format.JSON:
        sys.stdout.write(json.dumps(whole, indent=4, ensure_ascii=False) + "\n")
    else:
        yaml.safe_dump(whole, sys.stdout, sort_keys=False, allow_unicode=True)


def name_of(item: Json) -> str:
    """Name an object as kubectl takes it: "workflowrun.hatchet-operator.dev/parent-x7k2p"."""
    group = item["apiVersion"].partition("/")[0]
    return f"{item['kind'].lower()}.{group}/{item['metadata']['name']}"
