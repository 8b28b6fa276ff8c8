"""The CustomResourceDefinitions, as they were made from the models: by ``make_crds``, not at each start."""

from pathlib import Path

import orjson
import yaml

from hatchet_operator.resources.base import RECORDED_VERSION, VERSION, Json
from hatchet_operator.resources.run import WorkflowRun

MADE = Path(__file__).with_name("crds.json")
_HEADER = "# Generated from hatchet_operator.resources; do not edit. `make generate` writes it.\n"

_ANYTHING = {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "x-kubernetes-map-type": "atomic"}
"""A part that is not described, and has one owner for the whole."""


def load_crds(*, light_runs: bool = False) -> list[Json]:
    """Return the CRDs as the API server takes them.

    Args:
        light_runs: Whether runs may be made together with their status, which costs others something: see
            `recorded_version`.
    """
    crds: list[Json] = orjson.loads(MADE.read_bytes())
    if light_runs:
        next(crd for crd in crds if crd["spec"]["names"]["kind"] == WorkflowRun.__name__)["spec"]["versions"].append(
            recorded_version()
        )
    return crds


def recorded_version() -> Json:
    """Return the version of WorkflowRun in which a run is made together with its status.

    A version with the status subresource drops the status of a new object; this one has none, so it keeps it. All
    versions share what is stored, so the object is read in the other one as any. It describes nothing, since only the
    operator may use it, which the admission policy says: a schema would cost each create as much as both writes of
    a full record. The API server keeps a cache of all runs for each version, so it is there only where it is asked for.
    """
    rule = "!has(oldSelf.kind)"
    message = f"in version {RECORDED_VERSION} runs are made, by the operator, but not changed; use {VERSION}"
    return {
        "name": RECORDED_VERSION,
        "served": True,
        "storage": False,
        "schema": {
            "openAPIV3Schema": {
                "description": f"In this version the operator makes runs that have ended. Use {VERSION}.",
                "type": "object",
                "x-kubernetes-preserve-unknown-fields": True,
                "x-kubernetes-validations": [{"rule": rule, "message": message, "reason": "FieldValueForbidden"}],
                "properties": {"spec": dict(_ANYTHING), "status": dict(_ANYTHING)},
            }
        },
    }


def render_crd(crd: Json) -> str:
    """Return the text of a CRD's file."""
    return _HEADER + yaml.dump(crd, Dumper=_NoAliases, sort_keys=False, allow_unicode=True, width=110)


class _NoAliases(yaml.SafeDumper):
    """Writes what appears twice twice: ``*id001`` is valid YAML that nobody reads."""

    def ignore_aliases(self, data: object) -> bool:
        return True
