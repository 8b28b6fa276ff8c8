"""What the server serves: one ``Kind`` per resource and version, found by the group, version and plural of a URL."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from hatchet_operator_dev.apiserver.objects import Object
from hatchet_operator_dev.apiserver.schema import CompiledSchema
from hatchet_operator_dev.apiserver.selectors import FieldReader, field_reader
from hatchet_operator_dev.apiserver.tables import AGE, NAME, Column

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Where a custom resource keeps what its /scale subresource shows; paths such as ("spec", "replicas")."""

    spec_path: tuple[str, ...]
    status_path: tuple[str, ...]
    selector_path: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One resource in one version."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str = ""
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    has_status: bool = False
    scale: Scale | None = None
    columns: tuple[Column, ...] = (NAME, AGE)
    selectable: Mapping[str, FieldReader] = field(default_factory=dict)
    schema: CompiledSchema | None = None
    """``None`` for built-in kinds, whose fields are taken as they come."""
    openapi: Object | None = None
    is_custom: bool = False
    stored_in: str = ""
    """Collection of a kind that is another form of the objects of another one; empty for all others."""
    to_storage: Callable[[Object], Object] | None = None
    from_storage: Callable[[Object], Object] | None = None

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """Name of the collection: ``pods``, ``workflowruns.hatchet-operator.dev``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def collection(self) -> str:
        return self.stored_in or self.resource

    @property
    def list_kind(self) -> str:
        return f"{self.kind}List"

    @property
    def singular_name(self) -> str:
        return self.singular or self.kind.lower()

    @property
    def field_readers(self) -> Mapping[str, FieldReader]:
        own = {"metadata.name": field_reader(("metadata", "name"))}
        if self.namespaced:
            own["metadata.namespace"] = field_reader(("metadata", "namespace"))
        return {**own, **self.selectable}


class Kinds:
    """The registry; the order of registration is the order of discovery."""

    def __init__(self, kinds: Iterable[Kind] = ()) -> None:
        self._kinds: dict[tuple[str, str, str], Kind] = {}
        for kind in kinds:
            self.add(kind)

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._kinds.values())

    def add(self, kind: Kind) -> None:
        self._kinds[kind.group, kind.version, kind.plural] = kind

    def drop(self, group: str, plural: str) -> None:
        for key in [key for key in self._kinds if key[0] == group and key[2] == plural]:
            del self._kinds[key]

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        return self._kinds.get((group, version, plural))

    def of_resource(self, resource: str) -> Kind | None:
        """Find any version of a collection by its name (``pods``, ``workflowruns.hatchet-operator.dev``)."""
        plural, _, group = resource.partition(".")
        return next((kind for kind in self._kinds.values() if (kind.group, kind.plural) == (group, plural)), None)
