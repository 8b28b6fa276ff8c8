"""Label and annotation keys. Labels hold UIDs or names of at most 63 characters and are set when an object is made."""

from hatchet_operator.resources.base import GROUP

ROOT = f"{GROUP}/root"
"""The root run's name, on it and on every run below it: one selector finds a tree."""
ROOT_UID = f"{GROUP}/root-uid"
PARENT_UID = f"{GROUP}/parent-uid"
WORKFLOW = f"{GROUP}/workflow"
POOL = f"{GROUP}/pool"
TEMPLATE = f"{GROUP}/template"
POOL_TEMPLATE = f"{GROUP}/pool-template"
"""Annotation of a Pod that was made for one run, whose own template is another: that of its pool."""
RUN_UID = f"{GROUP}/run-uid"
"""Of a Pod that was made for one run: it takes only attempts of that run."""
MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "hatchet-operator"

POD_NUMBER = f"{GROUP}/pod-number"
"""Annotation of a Pod: how many there were before it, of its run, or of its pool in a row that ended at once."""

CREDENTIALS = f"{GROUP}/credentials"
"""Annotation of a Pod: what its pool's Secret has, as a hash. A change of it has the kubelet renew the Pod's files."""

LEADS_AT = f"{GROUP}/leads-at"
"""Annotation of the Lease: where its holder listens, as long as it does."""

HANDED_OVER = f"{GROUP}/handed-over"
"""Annotation of the Lease that a leader released: what it had given to which worker, as JSON text, for the next one."""

REGISTRATION = f"{GROUP}/registration"
"""Annotation of a worker's Pod: the registration, as JSON text, so that a new operator knows its workers."""
