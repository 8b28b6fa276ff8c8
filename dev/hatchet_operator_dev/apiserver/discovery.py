"""Discovery: which groups, versions and resources there are, in the old form and in the aggregated one that kubectl
asks first.
"""

from __future__ import annotations

from hatchet_operator_dev.apiserver.kinds import Kind, Kinds
from hatchet_operator_dev.apiserver.objects import Object

AGGREGATED_TYPE = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"

VERSION: Object = {
    "major": "1",
    "minor": "37",
    "emulationMajor": "1",
    "emulationMinor": "37",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "36",
    "gitVersion": "v1.37.2+hatchet-operator-embedded",
    "gitCommit": "embedded",
    "gitTreeState": "clean",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "python",
    "platform": "linux/amd64",
}

_STATUS_VERBS = ["get", "patch", "update"]


def wants_aggregated(accept: str) -> bool:
    return "as=APIGroupDiscoveryList" in accept and ";v=v2;" in accept.replace(" ", "") + ";"


def _groups(kinds: Kinds) -> dict[str, dict[str, list[Kind]]]:
    groups: dict[str, dict[str, list[Kind]]] = {}
    for kind in kinds:
        groups.setdefault(kind.group, {}).setdefault(kind.version, []).append(kind)
    return groups


def core_versions(host: str) -> Object:
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": host}],
    }


def group_list(kinds: Kinds) -> Object:
    groups = [_group(group, list(versions)) for group, versions in _groups(kinds).items() if group]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(kinds: Kinds, name: str) -> Object | None:
    versions = _groups(kinds).get(name)
    if not name or versions is None:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, list(versions))}


def _group(name: str, versions: list[str]) -> Object:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def resource_list(kinds: Kinds, group: str, version: str) -> Object | None:
    served = _groups(kinds).get(group, {}).get(version)
    if served is None:
        return None
    resources = [resource for kind in served for resource in _resources(kind)]
    group_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}


def _resources(kind: Kind) -> list[Object]:
    main: Object = {
        "name": kind.plural,
        "singularName": kind.singular_name,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        main["shortNames"] = list(kind.short_names)
    if kind.categories:
        main["categories"] = list(kind.categories)
    below = [
        {
            "name": f"{kind.plural}/{name}",
            "singularName": "",
            "namespaced": kind.namespaced,
            "kind": response["kind"],
            "verbs": verbs,
            **({"group": response["group"], "version": response["version"]} if name in ("scale", "token") else {}),
        }
        for name, response, verbs in _subresources(kind)
    ]
    return [main, *below]


def _subresources(kind: Kind) -> list[tuple[str, Object, list[str]]]:
    own = {"group": kind.group, "version": kind.version, "kind": kind.kind}
    found: list[tuple[str, Object, list[str]]] = []
    if kind.has_status:
        found.append(("status", own, _STATUS_VERBS))
    if kind.scale is not None:
        found.append(("scale", {"group": "autoscaling", "version": "v1", "kind": "Scale"}, _STATUS_VERBS))
    if kind.resource == "pods":
        found.append(("binding", {"group": "", "version": "v1", "kind": "Binding"}, ["create"]))
        found.append(("log", own, ["get"]))
    if kind.resource == "serviceaccounts":
        request = {"group": "authentication.k8s.io", "version": "v1", "kind": "TokenRequest"}
        found.append(("token", request, ["create"]))
    return found


def aggregated(kinds: Kinds, *, core: bool) -> Object:
    """Make the APIGroupDiscoveryList of /api (``core``) or of /apis."""
    items = [
        {
            "metadata": {"name": name, "creationTimestamp": None} if name else {"creationTimestamp": None},
            "versions": [
                {"version": version, "resources": [_aggregated(kind) for kind in served], "freshness": "Current"}
                for version, served in versions.items()
            ],
        }
        for name, versions in _groups(kinds).items()
        if (not name) is core
    ]
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _aggregated(kind: Kind) -> Object:
    found: Object = {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular_name,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        found["shortNames"] = list(kind.short_names)
    if kind.categories:
        found["categories"] = list(kind.categories)
    below = [
        {"subresource": name, "responseKind": response, "verbs": verbs} for name, response, verbs in _subresources(kind)
    ]
    if below:
        found["subresources"] = below
    return found
