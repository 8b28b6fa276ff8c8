"""Label and annotation keys. Labels hold UIDs or names of at most 63 characters and are set when an object is made."""

from typing import Annotated

from pydantic import Field

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

TRIGGERED_BY = f"{GROUP}/triggered-by"
"""What started a root run: one of `Cause`; absent: somebody who created it, or asked for it."""
EVENT = f"{GROUP}/event"
"""The event that started a run: its id, or a hash of one that cannot be the value of a label."""
EVENT_SOURCE = f"{GROUP}/event-source"
"""The WebhookSource that delivered the event that started a run."""
EVENT_ID = f"{GROUP}/event-id"
"""Annotation of a run that an event started."""
EVENT_KEY = f"{GROUP}/event-key"
"""Annotation of a run that an event started."""
DEDUPE = f"{GROUP}/dedupe"
"""The deduplication value that a run has: itself if it is a valid label value, otherwise a hash of it."""
IDEMPOTENCY = f"{GROUP}/idempotency-key"
"""The idempotency key that a run has, or had: itself if it is a valid label value, otherwise a hash of it."""
REQUEST = f"{GROUP}/request"
"""Annotation of a run with a deduplication value or an idempotency key: the request that made it; repeated, it finds
the run."""
VALUES = frozenset({DEDUPE, IDEMPOTENCY})
"""A child that has one of these is not named after its spawn."""
CRON = f"{GROUP}/cron"
"""Which cron of its workflow started a run, as a hash of its schedule and zone."""
SCHEDULE = f"{GROUP}/schedule"
"""Annotation of a run that a cron started: schedule and zone, for people."""
TICK = f"{GROUP}/tick"
"""Annotation of a run that a cron started: the time that it is for."""

CREDENTIALS = f"{GROUP}/credentials"
"""Annotation of a Pod: what its pool's Secret has, as a hash. A change of it has the kubelet renew the Pod's files."""

LEADS_AT = f"{GROUP}/leads-at"
"""Annotation of the Lease: where its holder listens, as long as it does."""

ELECTION = f"{GROUP}/election"
"""Of the Leases of operators that share their work: the name of the Lease that they hold together."""

MEMBER_OF = f"{GROUP}/member-of"
"""Of the Lease of one such operator: how many shards it deals with."""

SHARDS = f"{GROUP}/shards"
"""Annotation of the Lease that such operators hold together: "<shards>@<transitions>", since when so many are in force.
Of a shard's Lease: the same, as it was when the Lease was taken."""

HANDED_OVER = f"{GROUP}/handed-over"
"""Annotation of the Lease that a leader released: what it had given to which worker, as JSON text, for the next one."""

REGISTRATION = f"{GROUP}/registration"
"""Annotation of a worker's Pod: the registration, as JSON text, so that a new operator knows its workers."""

_VALUE = "[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
KEY_FORM = f"([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?{_VALUE}"
"""Of a label's key, as a regular expression of CEL."""
VALUE_FORM = f"({_VALUE})?"

LabelKey = Annotated[
    str,
    Field(
        max_length=317,
        min_length=1,
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": f"self.matches('^{KEY_FORM}$')",
                    "message": 'cannot be the key of a label; expected one such as "team" or "example.com/team"',
                }
            ]
        },
    ),
]
LabelValue = Annotated[
    str,
    Field(
        json_schema_extra={
            "maxLength": 63,
            "x-kubernetes-validations": [
                {
                    "rule": f"self.matches('^{VALUE_FORM}$')",
                    "message": 'cannot be the value of a label; expected letters, digits, "-", "_" and ".", or nothing',
                }
            ],
        }
    ),
]
"""What the API server refuses is still read: objects may have been written before it did."""


def keys_rule(of: str, example: str) -> dict[str, str]:
    """Make the rule that the keys of a map have the form of a label's key."""
    return {
        "rule": f"self.all(key, key.matches('^{KEY_FORM}$'))",
        "message": f'has a key that {of} can\'t have; expected one such as "{example}" or "example.com/{example}"',
    }
