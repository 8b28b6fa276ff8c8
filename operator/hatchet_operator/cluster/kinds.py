"""The kinds of objects that the operator reads or writes, and where the API server has them."""

import re
from dataclasses import dataclass

from hatchet_operator.errors import NotFound
from hatchet_operator.resources.base import GROUP, RECORDED_VERSION, VERSION

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_-]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Resource:
    """One kind: ``Resource(group="", version="v1", plural="pods", kind="Pod")``."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """Return the URL path of a collection, an object or a subresource of it.

        Raises:
            NotFound: No object can have that name. Clients choose names too, and "../" would lead to other objects.
        """
        if name is not None and not _NAME.fullmatch(name):
            raise NotFound(f'{self.plural} "{name[:253]}" not found: that is not a valid name', status=404)
        parts = [f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"]
        if namespace and self.namespaced:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/".join(parts)


WORKFLOWS = Resource(group=GROUP, version=VERSION, plural="workflows", kind="Workflow")
RUNS = Resource(group=GROUP, version=VERSION, plural="workflowruns", kind="WorkflowRun")
RECORDED_RUNS = Resource(group=GROUP, version=RECORDED_VERSION, plural=RUNS.plural, kind=RUNS.kind)
"""The version in which a run is made together with its status."""
POOLS = Resource(group=GROUP, version=VERSION, plural="workerpools", kind="WorkerPool")
WEBHOOK_SOURCES = Resource(group=GROUP, version=VERSION, plural="webhooksources", kind="WebhookSource")
RATE_LIMITS = Resource(group=GROUP, version=VERSION, plural="ratelimits", kind="RateLimit")
NAMESPACES = Resource(group="", version="v1", plural="namespaces", kind="Namespace", namespaced=False)
PODS = Resource(group="", version="v1", plural="pods", kind="Pod")
QUOTAS = Resource(group="", version="v1", plural="resourcequotas", kind="ResourceQuota")
SERVICES = Resource(group="", version="v1", plural="services", kind="Service")
SECRETS = Resource(group="", version="v1", plural="secrets", kind="Secret")
CONFIG_MAPS = Resource(group="", version="v1", plural="configmaps", kind="ConfigMap")
EVENTS = Resource(group="", version="v1", plural="events", kind="Event")
REVISIONS = Resource(group="apps", version="v1", plural="controllerrevisions", kind="ControllerRevision")
TOKEN_REVIEWS = Resource(
    group="authentication.k8s.io", version="v1", plural="tokenreviews", kind="TokenReview", namespaced=False
)
ACCESS_REVIEWS = Resource(
    group="authorization.k8s.io", version="v1", plural="localsubjectaccessreviews", kind="LocalSubjectAccessReview"
)
OWN_ACCESS_REVIEWS = Resource(
    group="authorization.k8s.io",
    version="v1",
    plural="selfsubjectaccessreviews",
    kind="SelfSubjectAccessReview",
    namespaced=False,
)
OWN_RULES_REVIEWS = Resource(
    group="authorization.k8s.io",
    version="v1",
    plural="selfsubjectrulesreviews",
    kind="SelfSubjectRulesReview",
    namespaced=False,
)
OWN_REVIEWS = Resource(
    group="authentication.k8s.io", version="v1", plural="selfsubjectreviews", kind="SelfSubjectReview", namespaced=False
)
LEASES = Resource(group="coordination.k8s.io", version="v1", plural="leases", kind="Lease")
ENDPOINT_SLICES = Resource(group="discovery.k8s.io", version="v1", plural="endpointslices", kind="EndpointSlice")
CRDS = Resource(
    group="apiextensions.k8s.io",
    version="v1",
    plural="customresourcedefinitions",
    kind="CustomResourceDefinition",
    namespaced=False,
)
