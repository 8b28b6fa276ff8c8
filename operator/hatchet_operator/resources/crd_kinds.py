"""What the CRD of each kind says beside the schema of its model: columns, rules in CEL, selectable fields.

The API server must never accept what the model refuses, or etcd holds an object that nobody can read. So a
limit goes into the model, which also puts it into the schema; only rules about several fields or about a change are
written here.

The API server evaluates all rules of a run at each write of its status too, and whenever an expression looks a field up
it copies the schemas of all fields beside it: some 16 KiB for one of `spec`, which has 24. So a rule stands at the
field that it is about wherever it can, where `self` is looked up already; and what is absent from most runs is asked
for first, since that costs nothing (docs/design/0039-what-a-write-costs-the-api-server.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hatchet_operator.resources.base import GROUP, Json, ResourceModel
from hatchet_operator.resources.rate_limit import RateLimit
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.resources.webhook_source import WebhookSource
from hatchet_operator.resources.workerpool import WorkerPool
from hatchet_operator.resources.workflow import Workflow


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A CEL rule on ``spec``, and what a person reads who breaks it.

    Attributes:
        rule: The expression.
        message: What is said to whoever breaks it.
        field: The field that is to blame, from where the rule stands.
        reason: As which kind of error.
        at: The field of ``spec`` at which the rule stands, and which is its ``self``; None: ``spec`` itself. At a field
            it is evaluated only if the field is there, a rule with ``oldSelf`` only if it was there before too.
    """

    rule: str
    message: str
    field: str | None = None
    reason: str = "FieldValueInvalid"
    at: str | None = None

    def to_wire(self) -> Json:
        path = {"fieldPath": f".{self.field}"} if self.field else {}
        return {"rule": self.rule, "message": self.message, "reason": self.reason} | path


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of ``kubectl get``; one with priority 1 is shown by ``-o wide`` alone."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0

    def to_wire(self) -> Json:
        priority = {"priority": self.priority} if self.priority else {}
        return {"name": self.name, "type": self.type, "jsonPath": self.path} | priority


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a CRD says beside the schema of its model."""

    model: type[ResourceModel]
    short_name: str
    columns: tuple[Column, ...]
    rules: tuple[Rule, ...] = ()
    object_rules: tuple[Rule, ...] = ()  # of the whole object, for what stands beside its spec
    selectable: tuple[str, ...] = ()
    scale: Mapping[str, str] | None = None
    max_name: int | None = None


def _immutable(field: str, instead: str, *, is_required: bool = False) -> tuple[Rule, ...]:
    """Have a field stay as it is: its value where it stands, its presence, unless the schema requires it, beside it."""
    message = f"{field} is fixed once the object exists: it can be neither changed, added nor removed; {instead}"
    value = Rule(rule="self == oldSelf", message=message, reason="FieldValueForbidden", at=field)
    presence = Rule(
        rule=f"has(self.{field}) == has(oldSelf.{field})", message=message, field=field, reason="FieldValueForbidden"
    )
    return (value,) if is_required else (presence, value)


def _immutable_map(field: str, instead: str) -> tuple[Rule, ...]:
    """Have a map of anything stay as it is; CEL has no name for what is in it, so no rule can stand at the field."""
    (presence, _) = _immutable(field, instead)
    this, old = f"dyn(self).{field}", f"dyn(oldSelf).{field}"
    return (replace(presence, rule=f"has({this}) == has({old}) && (!has({this}) || {this} == {old})"),)


def _condition(condition_type: str, *, field: str = "status") -> str:
    return f'.status.conditions[?(@.type=="{condition_type}")].{field}'


_AGE = Column(name="Age", type="date", path=".metadata.creationTimestamp")
_ANOTHER_RUN = "create another WorkflowRun instead"

WORKFLOW = Kind(
    model=Workflow,
    short_name="wf",
    max_name=63,  # it is the value of a label on every run
    columns=(
        Column(name="Registered", path=_condition("Registered")),
        Column(name="Workers", type="integer", path=".status.workers"),
        Column(name="Version", path=".status.definition.version"),
        Column(name="Pool", path=".status.pool"),
        Column(name="Suspended", type="boolean", path=".spec.suspended"),
        Column(name="Waiting", type="integer", path=".status.waiting", priority=1),
        Column(name="Last tick", type="date", path=".status.lastTick", priority=1),
        Column(name="Next tick", path=".status.nextTick", priority=1),  # as a date, the future is "<invalid>"
        Column(name="Exact name", path=".status.definition.name", priority=1),
        Column(name="Revision", path=".status.revision", priority=1),
        _AGE,
    ),
    rules=_immutable("name", "to rename the workflow, create another Workflow and delete this one"),
    object_rules=(
        Rule(
            rule="self.metadata.name.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",
            message='is not a name that runs can refer to: a Workflow\'s has lower-case letters, digits and "-"; the '
            'workflow itself may have any, as in metadata.name: "a-b", spec.name: "a.b"',
            field="metadata.name",
        ),
    ),
)

RUN = Kind(
    model=WorkflowRun,
    short_name="wfr",
    columns=(
        Column(name="Workflow", path=".spec.workflow"),
        Column(name="Phase", path=".status.phase"),
        Column(name="Reason", path=".status.reason", priority=1),
        Column(name="Children", path=".status.children.summary"),
        Column(name="Parent", path=".spec.parent.name"),
        Column(name="Key", path=".spec.parent.key"),
        Column(name="Duration", path=".status.duration"),
        _AGE,
        Column(name="Starts", path=".spec.startAt", priority=1),  # as a date, the future is "<invalid>"
        Column(name="UID", path=".metadata.uid", priority=1),
    ),
    selectable=(".status.phase", ".status.reason", ".spec.workflow"),
    rules=(
        *_immutable("workflow", _ANOTHER_RUN, is_required=True),
        # CEL sees a map of anything through dyn() alone. As an object that preserves unknown fields it needs none,
        # but there kube-apiserver 1.37 compares only the keys that both have: {a: 1} equals {b: 1}.
        *_immutable_map("input", _ANOTHER_RUN),
        *_immutable("inputJson", _ANOTHER_RUN),
        *_immutable("managedBy", "who runs it is said when it is created"),
        *_immutable("parent", "only the operator sets it, when a step spawns the run"),
        Rule(
            rule="!(has(dyn(self).input) && has(self.inputJson))",
            message="input and inputJson are both set, but a run has one input; "
            "keep input (an object) or inputJson (the text of one)",
            field="inputJson",
        ),
        Rule(
            rule="!oldSelf.cancelled || self.cancelled",
            message=f"cancelled cannot go back to false: a cancelled run stays cancelled; {_ANOTHER_RUN}",
            field="cancelled",
            reason="FieldValueForbidden",
        ),
        Rule(
            rule=f"!has(self.propagateLabels) || !self.propagateLabels.exists(key, key.startsWith('{GROUP}/'))",
            message=f"propagateLabels has a label of {GROUP}, but those say which run it is, and children have their "
            "own; name labels that you chose",
            field="propagateLabels",
        ),
        Rule(
            rule="self.reruns >= oldSelf.reruns",
            message="reruns is lower than it was, but it counts reruns and only goes up; "
            "to run the run once more, raise it by one",
            field="reruns",
        ),
        Rule(
            rule="!has(oldSelf.resumes) || (has(self.resumes) && self.resumes >= oldSelf.resumes)",
            message="resumes is lower than it was, but it only goes up; to resume a paused run, raise it by one",
            field="resumes",
        ),
        Rule(
            rule="!has(oldSelf.replay) || (has(self.replay) && self.replay.number >= oldSelf.replay.number)",
            message="replay.number is lower than it was, but it counts reruns and only goes up; "
            "to replay the run, set it to status.reruns + 1",
            field="replay",
        ),
        Rule(
            rule="!has(self.replay) || (has(oldSelf.replay) && self.replay.number == oldSelf.replay.number)"
            " || self.replay.number > oldSelf.reruns",
            message="replay.number is a rerun that was asked for before by reruns; to replay the run, set it to "
            "status.reruns + 1",
            field="replay",
        ),
        Rule(
            rule="!has(oldSelf.replay) || !has(self.replay) || self.replay.number > oldSelf.replay.number"
            " || self.replay.from == oldSelf.replay.from",
            message="replay.from says how replay.number goes, and can't be changed alone; set replay.number to "
            "status.reruns + 1 as well",
            field="replay",
        ),
        Rule(
            rule="!self.cancelled || (self.reruns <= oldSelf.reruns && (!has(self.replay)"
            " || (has(oldSelf.replay) && self.replay.number <= oldSelf.replay.number)))",
            message=f"a cancelled run stays cancelled, so it can't be run again; {_ANOTHER_RUN}",
            field="cancelled",
            reason="FieldValueForbidden",
        ),
        Rule(
            rule="!has(self.replay) || !has(self.replay.requestedBy) || has(self.parent)",
            message="replay.requestedBy is set on a run without parent, but it names a replay of that; leave it out",
            field="replay.requestedBy",
        ),
        Rule(
            rule="!has(oldSelf.execution) || (has(self.execution) && self.execution >= oldSelf.execution)",
            message="execution (the earlier name of reruns) is lower than it was, but it only goes up; "
            "leave it as it is, and raise reruns above it to run the run once more",
            field="execution",
        ),
        Rule(
            rule="!has(self.key) || self.key != ''",
            message="parent.key is empty; give it at least one character, "
            "or leave it out for a child that its index names",
            field="key",
            at="parent",
        ),
        Rule(
            rule="!has(self.rerunRequestedBy) || has(self.parent)",
            message="rerunRequestedBy is set on a run without parent, but it names an attempt of the parent; "
            "leave it out and raise reruns",
            field="rerunRequestedBy",
        ),
    ),
)

POOL = Kind(
    model=WorkerPool,
    short_name="wp",
    max_name=63,  # it is the value of a label on every pod
    columns=(
        Column(name="Ready", type="integer", path=".status.readyReplicas"),
        Column(name="Replicas", type="integer", path=".status.replicas"),
        Column(name="Min", type="integer", path=".spec.minReplicas"),
        Column(name="Max", type="integer", path=".spec.maxReplicas"),
        Column(name="Running", type="integer", path=".status.running"),
        Column(name="Slots", type="integer", path=".status.slots"),
        Column(name="Queued", type="integer", path=".status.queued"),
        Column(name="Oldest", type="date", path=".status.oldestQueuedAt", priority=1),
        Column(name="Available", path=_condition("Available")),
        Column(name="Rollout", path=_condition("RolledOut", field="reason")),
        Column(name="Limited", path=_condition("ScalingLimited", field="reason"), priority=1),
        _AGE,
    ),
    scale={
        "specReplicasPath": ".spec.minReplicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    },
)

WEBHOOK_SOURCE = Kind(
    model=WebhookSource,
    short_name="whs",
    max_name=63,  # it is the value of a label on runs
    columns=(
        Column(name="Type", path=".spec.type"),
        Column(name="Ready", path=_condition("Ready")),
        Column(name="Reason", path=_condition("Ready", field="reason")),
        Column(name="Path", path=".status.path"),
        Column(name="Secret", path=".spec.secretRef.name", priority=1),
        _AGE,
    ),
    rules=(
        Rule(
            rule="(self.type == 'HMAC') == has(self.hmac)",
            message="hmac says how type HMAC signs: that type needs it, and the others know it by themselves",
            field="hmac",
        ),
        Rule(
            rule="self.type != 'HMAC' || has(self.eventKey)",
            message="eventKey is missing: of type HMAC nobody knows which event a delivery is; "
            "expected an expression, as in 'shop:' + input.kind",
            field="eventKey",
        ),
    ),
)

RATE_LIMIT = Kind(
    model=RateLimit,
    short_name="rl",
    columns=(
        Column(name="Limit", type="integer", path=".spec.limit"),
        Column(name="Window", path=".spec.window"),
        Column(name="Used", type="integer", path=".status.used"),
        Column(name="Waiting", type="integer", path=".status.waiting"),
        Column(name="Refills", path=".status.refillsAt", priority=1),  # as a date, the future is "<invalid>"
        Column(name="Key", path=".spec.key", priority=1),
        _AGE,
    ),
    rules=_immutable("key", "create another RateLimit and delete this one"),
)

KINDS = (WORKFLOW, RUN, POOL, WEBHOOK_SOURCE, RATE_LIMIT)
