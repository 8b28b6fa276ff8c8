"""The schema of a model in the form that Kubernetes calls structural: no references, no alternatives, no nulls.

What cannot be said that way raises here, when the CRDs are made, not in a cluster.
"""

from datetime import timedelta
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from hatchet_operator.durations import format_duration
from hatchet_operator.resources.base import Json, ResourceModel

_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]


def structural_schema(model: type[ResourceModel]) -> Json:
    """Return the structural schema of a model.

    Raises:
        TypeError: The model has a field that no structural schema can describe, such as a union of models.
    """
    schema = model.model_json_schema(by_alias=True, schema_generator=_Schema)
    return _Structural(schema.pop("$defs", {})).convert(schema, model.__name__)


class _Schema(GenerateJsonSchema):
    """pydantic's own schemas, with the defaults of durations in the form that the API server checks them in."""

    def encode_default(self, dft: Any) -> Any:
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


class _Structural:
    """Converts the schemas of one model and of what it is made of."""

    def __init__(self, definitions: Json) -> None:
        self._definitions = definitions

    def convert(self, schema: Json, path: str) -> Json:
        schema = self._resolve(schema, path)
        result: Json = {}
        for keyword, value in schema.items():
            result |= self._keyword(keyword, value, schema, path)
        if "type" not in result and "x-kubernetes-int-or-string" not in result:
            result |= {"x-kubernetes-preserve-unknown-fields": True, "nullable": True}  # null is a value like another
        default = self._default(schema.get("default"), result)
        if default and ".spec." in path and "[]" in path:
            # Lists are compared whole: filled in by the API server, each kubectl apply would change the object again.
            if default["default"] is not False:
                result["description"] = f"{result['description']} Default: {default['default']}."
        else:
            result |= default
        return {keyword: result[keyword] for keyword in sorted(result, key=_KEYWORDS.index)}

    def _keyword(self, keyword: str, value: Any, schema: Json, path: str) -> Json:
        """Return what a keyword of a schema becomes; nothing, if other words say it."""
        match keyword:
            case "properties":
                return {keyword: {name: self.convert(sub, f"{path}.{name}") for name, sub in value.items()}}
            case "items":
                return {keyword: self.convert(value, f"{path}[]")}
            case "additionalProperties":
                return {keyword: self.convert({} if value is True else value, f"{path}{{}}")}
            case "const":
                return {"enum": [value]}
            case "exclusiveMinimum" | "exclusiveMaximum":  # a number in JSON schema, a flag in Kubernetes'
                return {keyword.replace("exclusiveM", "m"): value, keyword: True}
            case "format" if value == "duration":  # ISO 8601 to pydantic, ours is Go's: the pattern says so
                return {}
            case "title" | "default":
                return {}
            case "type" if schema.get("x-kubernetes-int-or-string"):  # rules say in words which of both is taken
                return {}
            case _ if keyword in _KEYWORDS:
                return {keyword: value}
        raise TypeError(f"{path}: no structural schema has {keyword!r}; give the field another type")

    def _resolve(self, schema: Json, path: str) -> Json:
        """Follow a reference, and drop null from the alternatives: absent is the one way to say nothing."""
        siblings = dict(schema)
        if reference := siblings.pop("$ref", None):
            return self._resolve(self._definitions[reference.removeprefix("#/$defs/")], path) | siblings
        if alternatives := siblings.pop("anyOf", None):
            choices = [choice for choice in alternatives if choice != {"type": "null"}]
            if choices == _INT_OR_STRING:
                return {"x-kubernetes-int-or-string": True} | siblings
            if len(choices) != 1:
                raise TypeError(f"{path}: a structural schema has no alternatives; give the field one type")
            return self._resolve(choices[0], path) | siblings
        return siblings

    @staticmethod
    def _default(default: object, converted: Json) -> Json:
        properties = converted.get("properties")
        if properties is not None and isinstance(default, dict):
            # Enough to let the API server fill in the defaults of the fields.
            return {"default": {}} if any("default" in field for field in properties.values()) else {}
        return {} if default in (None, "", [], {}) else {"default": default}


# What a structural schema may say, in the order in which people want to read it.
_KEYWORDS = [
    *("description", "type", "format", "enum", "pattern", "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"),
    *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties", "nullable", "default"),
    *(
        "x-kubernetes-int-or-string",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type",
    ),
    *("x-kubernetes-validations", "required", "properties", "additionalProperties", "items"),
]
