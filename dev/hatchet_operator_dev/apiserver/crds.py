"""CustomResourceDefinitions: from the object a person applied to the kinds that are served."""

from __future__ import annotations

from collections.abc import Callable

from hatchet_operator_dev.apiserver import status
from hatchet_operator_dev.apiserver.kinds import Kind, Scale
from hatchet_operator_dev.apiserver.objects import Object
from hatchet_operator_dev.apiserver.schema import compile_schema
from hatchet_operator_dev.apiserver.selectors import field_reader
from hatchet_operator_dev.apiserver.status import FieldError
from hatchet_operator_dev.apiserver.structural import structural_errors
from hatchet_operator_dev.apiserver.tables import compile_json_path, custom_columns

Path = tuple[str, ...]


def complete_definition(crd: Object, now: str) -> None:
    """Fill in what a person may leave out, and the status by which clients know that the kind is served."""
    spec = crd["spec"]
    names = spec["names"]
    names.setdefault("singular", names["kind"].lower())
    names.setdefault("listKind", f"{names['kind']}List")
    spec.setdefault("conversion", {"strategy": "None"})
    crd["status"] = {
        "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": now, "reason": reason, "message": message}
            for kind, reason, message in (
                ("NamesAccepted", "NoConflicts", "no conflicts found"),
                ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
            )
        ],
        "acceptedNames": names,
        "storedVersions": [version["name"] for version in spec["versions"] if version.get("storage")],
    }


def definition_errors(crd: Object) -> list[FieldError]:
    """Say what is wrong with a CRD; empty if its kinds can be served."""
    spec = crd.get("spec")
    if not isinstance(spec, dict):
        return [status.required("spec")]
    errors = [status.required(f"spec.{name}") for name in ("group", "names", "scope", "versions") if not spec.get(name)]
    if errors:
        return errors
    names = spec["names"]
    errors += [status.required(f"spec.names.{name}") for name in ("plural", "kind") if not names.get(name)]
    if errors:
        return errors
    wanted_name = f"{names['plural']}.{spec['group']}"
    if crd["metadata"].get("name") != wanted_name:
        errors.append(
            status.invalid("metadata.name", crd["metadata"].get("name", ""), 'must be spec.names.plural+"."+spec.group')
        )
    if spec["scope"] not in ("Namespaced", "Cluster"):
        errors.append(status.not_supported("spec.scope", spec["scope"], ("Cluster", "Namespaced")))
    if sum(bool(version.get("storage")) for version in spec["versions"]) != 1:
        errors.append(
            status.invalid("spec.versions", spec["versions"], "must have exactly one version marked as storage version")
        )
    for index, version in enumerate(spec["versions"]):
        errors += _version_errors(version, f"spec.versions[{index}]")
    return errors


def _version_errors(version: Object, field: str) -> list[FieldError]:
    if not version.get("name"):
        return [status.required(f"{field}.name")]
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    if schema is None:
        return [status.required(f"{field}.schema.openAPIV3Schema", "schemas are required")]
    errors = structural_errors(schema, f"{field}.schema.openAPIV3Schema")
    for index, column in enumerate(version.get("additionalPrinterColumns") or ()):
        where = f"{field}.additionalPrinterColumns[{index}]"
        missing = [name for name in ("name", "type", "jsonPath") if not column.get(name)]
        errors += [status.required(f"{where}.{name}") for name in missing]
        if "jsonPath" not in missing:
            try:
                compile_json_path(column["jsonPath"])
            except ValueError as error:
                errors.append(status.invalid(f"{where}.jsonPath", column["jsonPath"], str(error)))
    for index, selectable in enumerate(version.get("selectableFields") or ()):
        if not _names_a_scalar(schema, _path(selectable.get("jsonPath", ""))):
            errors.append(
                status.invalid(
                    f"{field}.selectableFields[{index}].jsonPath",
                    selectable.get("jsonPath", ""),
                    "is an invalid path: does not refer to a valid field",
                )
            )
    return errors


def _names_a_scalar(schema: Object, path: Path) -> bool:
    for name in path:
        schema = schema.get("properties", {}).get(name)
        if schema is None:
            return False
    return bool(path) and schema.get("type") in ("string", "integer", "boolean")


def kinds_of(crd: Object) -> list[Kind]:
    """Make the kinds that a valid CRD serves, one per served version."""
    spec = crd["spec"]
    names = spec["names"]
    kinds = []
    stored = next(version for version in spec["versions"] if version.get("storage"))
    for version in spec["versions"]:
        if not version.get("served", True):
            continue
        schema = version["schema"]["openAPIV3Schema"]
        subresources = version.get("subresources") or {}
        kinds.append(
            Kind(
                group=spec["group"],
                version=version["name"],
                kind=names["kind"],
                plural=names["plural"],
                singular=names["singular"],
                namespaced=spec["scope"] == "Namespaced",
                short_names=tuple(names.get("shortNames") or ()),
                categories=tuple(names.get("categories") or ()),
                has_status="status" in subresources,
                scale=_scale(subresources.get("scale")),
                columns=custom_columns(version.get("additionalPrinterColumns")),
                selectable={
                    selectable["jsonPath"].removeprefix("."): field_reader(_path(selectable["jsonPath"]))
                    for selectable in version.get("selectableFields") or ()
                },
                schema=compile_schema(schema),
                openapi=schema,
                is_custom=True,
                to_storage=None if version is stored else _conversion(spec["group"], stored),
            )
        )
    return kinds


def _conversion(group: str, stored: Object) -> Callable[[Object], Object]:
    """Return what makes an object of another version one of the stored version: pruned and defaulted as that says."""
    schema = compile_schema(stored["schema"]["openAPIV3Schema"])

    def convert(obj: Object) -> Object:
        converted = {**obj, "apiVersion": f"{group}/{stored['name']}"}
        schema.shape(converted)
        return converted

    return convert


def _scale(declared: Object | None) -> Scale | None:
    if declared is None:
        return None
    selector = declared.get("labelSelectorPath")
    return Scale(
        spec_path=_path(declared["specReplicasPath"]),
        status_path=_path(declared["statusReplicasPath"]),
        selector_path=_path(selector) if selector else None,
    )


def _path(json_path: str) -> Path:
    return tuple(part for part in json_path.split(".") if part)
