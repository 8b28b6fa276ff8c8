"""Every field of a spec that people write, given what it can't be: one sentence, naming the field, at `kubectl apply`.

The table is complete: a new field without a bad value in it, or a reason to have none, fails a test. Rules of several
fields and of changes are in `test_crds.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hatchet_operator.resources.base import API_VERSION
from hatchet_operator.resources.crds import load_crds
from tests.kube.client import Api, Json, Kind

KINDS = {
    name: Kind(api_version=API_VERSION, kind=name, plural=f"{name.lower()}s")
    for name in ("Workflow", "WorkflowRun", "WorkerPool", "WebhookSource", "RateLimit")
}
VALID: dict[str, Json] = {
    "Workflow": {"idempotency": {"expression": "input.id", "ttl": "1h"}},
    "WorkflowRun": {"workflow": "etl"},
    "WorkerPool": {"template": {"spec": {"containers": [{"name": "worker"}]}}},
    "WebhookSource": {
        "type": "HMAC",
        "secretRef": {"name": "shop"},
        "eventKey": "input.kind",
        "hmac": {"header": "X-Signature"},
    },
    "RateLimit": {"limit": 5, "window": "1m"},
}
NO_DURATION = "is not a duration; expected numbers with units"
NO_TEXT_OR_NUMBER = 'must be of type integer,string: "'  # CEL sees no value of another type, so no rule can say more
QUANTITY = 'is not a quantity; expected a number with or without a unit, as in 2, "500m" or "1Gi"'
NO_WHOLE_NUMBER = 'must be of type integer: "string"'
NO_FLAG = 'must be of type boolean: "string"'
NO_KEY = "has a key that a label can't have"
NO_VALUE = "cannot be the value of a label"

# Path of the field ("{}": of each entry of a map, "[]": of a list), what is given, what is said.
BAD_VALUES: dict[str, list[tuple[str, Any, str]]] = {
    "Workflow": [
        ("name", "", "should be at least 1 chars long"),
        ("name", "x" * 254, "may not be more than 253"),
        ("pool", "My Pool!", "cannot be the name of a WorkerPool object"),
        ("pool", "", "cannot be the name of a WorkerPool object"),
        ("execution", "Node", 'supported values: "Pool", "Pod"'),
        ("podOverrides.resources.requests", {"": 1}, "has a key that a resource can't have"),
        ("podOverrides.resources.requests", {"m": 1, "two words": 1}, "has a key that a resource can't have"),
        ("podOverrides.resources.requests{}", "much", QUANTITY),
        ("podOverrides.resources.requests{}", "-1Gi", "is less than nothing; expected 0 or more"),
        ("podOverrides.resources.requests{}", -1, "is less than nothing; expected 0 or more"),
        ("podOverrides.resources.limits", {"a b": 1}, "has a key that a resource can't have"),
        ("podOverrides.resources.limits{}", "", QUANTITY),
        ("podOverrides.resources.limits{}", True, NO_TEXT_OR_NUMBER),
        ("podOverrides.nodeSelector", {"": "ssd"}, NO_KEY),
        ("podOverrides.nodeSelector{}", "two words", NO_VALUE),
        ("podOverrides.nodeSelector{}", True, 'must be of type string: "boolean"'),
        ("podOverrides.tolerations[].key", "two words", "key cannot be the key of a taint"),
        ("podOverrides.tolerations[].operator", "Is", 'supported values: "Exists", "Equal"'),
        ("podOverrides.tolerations[].value", "two words", "value cannot be the value of a taint"),
        ("podOverrides.tolerations[].effect", "Never", 'supported values: "NoSchedule"'),
        ("podOverrides.tolerations[].tolerationSeconds", 5, "only effect NoExecute has it"),
        ("podOverrides.tolerations[].tolerationSeconds", -1, "greater than or equal to 0"),
        ("podOverrides.tolerations", [{}], "has no key, which only operator Exists can do without"),
        ("podOverrides.tolerations", [{"operator": "Exists", "value": "x"}], "operator Exists takes any value"),
        ("onFailure.runOn", "Success", 'supported values: "Failure", "Cancel", "FailureOrCancel", "Always"'),
        ("onFailure", "Always", 'must be of type object: "string"'),
        ("steps", {"": {}}, "has a step whose name is empty"),
        ("steps", {" ": {}}, "has a step whose name is empty"),
        ("steps", {"x" * 254: {}}, "has more than 253 characters"),
        ("steps", [], 'must be of type object: "array"'),
        ("steps{}.timeout", "5x", NO_DURATION),
        ("steps{}.timeout", "0s", "is zero; expected more than zero"),
        ("steps{}.timeout", False, NO_TEXT_OR_NUMBER),
        ("steps{}.retries", -1, "greater than or equal to 0"),
        ("steps{}.retries", 1.5, 'must be of type integer: "number"'),
        ("steps{}.backoffFactor", 0.5, "greater than or equal to 1"),
        ("steps{}.backoffMaxSeconds", -1, "greater than or equal to 0"),
        ("steps{}.backoffDelays", [], "should have at least 1 items"),
        ("steps{}.backoffDelays", "5s", 'must be of type array: "string"'),
        ("steps{}.backoffDelays[]", "soon", NO_DURATION),
        ("steps{}.backoffDelays[]", True, NO_TEXT_OR_NUMBER),
        ("steps{}.backoffJitter", 2, "less than or equal to 1"),
        ("steps{}.backoffJitter", -0.5, "greater than or equal to 0"),
        ("steps{}.maxReassignments", 2**31, "less than or equal to 2147483647"),
        ("steps{}.workerLabels", ["gpu"], 'must be of type object: "array"'),
        ("steps{}.workerLabels", {"": {"value": 1}}, "has a key that is empty"),
        ("steps{}.workerLabels", {"x" * 254: {"value": 1}}, "has more than 253 characters"),
        ("steps{}.workerLabels", {"gpu": {}}, "value: Required value"),
        ("steps{}.workerLabels{}.value", True, NO_TEXT_OR_NUMBER),
        ("steps{}.workerLabels{}.value", "x" * 254, "may not be more than 253"),
        ("steps{}.workerLabels{}.comparator", "Is", 'supported values: "Equal", "NotEqual"'),
        ("steps{}.workerLabels{}.required", "yes", NO_FLAG),
        ("steps{}.workerLabels{}.weight", "much", NO_WHOLE_NUMBER),
        ("sticky", "Firm", 'supported values: "None", "Soft", "Hard"'),
        ("maxParallel", 0, "greater than or equal to 1"),
        ("maxParallel", "many", NO_WHOLE_NUMBER),
        ("scheduleTimeout", "", NO_DURATION),
        ("scheduleTimeout", ["5m"], NO_TEXT_OR_NUMBER),
        ("scheduleTimeoutCounts", "Both", 'supported values: "Worker", "Queue"'),
        ("record", "Nothing", 'supported values: "Full", "Result"'),
        ("onRetriesExhausted", "Explode", 'supported values: "Fail", "Pause"'),
        ("priority", 4, "less than or equal to 3"),
        ("ttl", 7, NO_DURATION),
        ("ttl", True, NO_TEXT_OR_NUMBER),
        ("suspended", "yes", NO_FLAG),
        ("steps{}.rateLimits", {"key": "api"}, 'must be of type array: "object"'),
        ("steps{}.rateLimits", [{"key": "api"}] * 11, "must have at most 10 items"),
        ("steps{}.rateLimits[].key", "", "should be at least 1 chars long"),
        ("steps{}.rateLimits[].key", "x" * 257, "may not be more than 256"),
        ("steps{}.rateLimits[].keyExpression", "", "should be at least 1 chars long"),
        ("steps{}.rateLimits[].units", -1, "greater than or equal to 0"),
        ("steps{}.rateLimits[].units", 1.5, 'must be of type integer: "number"'),
        ("steps{}.rateLimits[].units", "input.units", NO_WHOLE_NUMBER),
        ("steps{}.rateLimits[].unitsExpression", 1, 'must be of type string: "integer"'),
        ("steps{}.rateLimits[].limitExpression", 10, 'must be of type string: "integer"'),
        ("steps{}.rateLimits[].window", "a minute", NO_DURATION),
        ("steps{}.rateLimits", [{"units": 1}], "needs one of key (a text) and keyExpression"),
        ("steps{}.rateLimits", [{"key": "a", "keyExpression": "input.a"}], "and not both"),
        ("steps{}.rateLimits", [{"key": "a", "units": 1, "unitsExpression": "1"}], "has units and unitsExpression"),
        ("steps{}.rateLimits", [{"key": "a", "window": "1m"}], "has a window without limitExpression"),
        ("idempotency.expression", "", "should be at least 1 chars long"),
        ("idempotency.ttl", "soon", NO_DURATION),
        ("idempotency.untilEnd", "yes", NO_FLAG),
        ("concurrency", {"expression": "'all'"}, 'must be of type array: "object"'),
        ("concurrency[].expression", "", "should be at least 1 chars long"),
        ("concurrency[].expression", "x" * 1025, "may not be more than 1024"),
        ("concurrency[].maxRuns", 0, "greater than or equal to 1"),
        ("concurrency[].strategy", "Drop", 'supported values: "CancelInProgress", "CancelNewest"'),
        ("crons[].schedule", "every day", "has not five fields"),
        ("crons[].timeZone", "x" * 65, "may not be more than 64"),
        ("crons[].input", 5, 'must be of type object: "integer"'),
        ("crons[].additionalMetadata", "x", 'must be of type object: "string"'),
        ("crons[].priority", 4, "less than or equal to 3"),
        ("crons[].concurrencyPolicy", "Never", 'supported values: "Allow", "Forbid", "Replace"'),
        ("crons[].catchUp", "None", 'supported values: "Skip", "Last", "All"'),
        ("crons[].catchUpLimit", 0, "greater than or equal to 1"),
        ("crons[].suspended", "yes", NO_FLAG),
        ("events[].key", "", "should be at least 1 chars long"),
        ("events[].scope", "", "should be at least 1 chars long"),
        ("events[].filter", "", "should be at least 1 chars long"),
        ("events[].filter", "x" * 1025, "may not be more than 1024"),
    ],
    "WorkflowRun": [
        ("workflow", "Etl", "cannot be the name of a Workflow object"),
        ("input", 5, 'must be of type object: "integer"'),
        ("inputJson", {"a": 1}, 'must be of type string: "object"'),
        ("inputJson", "x" * 262145, "may not be more than 262144"),
        ("filterPayload", {"a": 1}, 'must be of type string: "object"'),
        ("filterPayload", "x" * 65537, "may not be more than 65536"),
        ("startAt", "tomorrow", "must be of type date-time"),
        ("priority", 0, "greater than or equal to 1"),
        ("additionalMetadata", [], 'must be of type object: "array"'),
        (
            "managedBy",
            "kueue",
            "cannot be the name of a controller; expected a domain and a path, as in kueue.x-k8s.io/",
        ),
        ("managedBy", "a/" + "x" * 62, "may not be more than 63"),
        ("cancelled", "yes", NO_FLAG),
        ("suspended", "yes", NO_FLAG),
        ("ttl", "5 days", NO_DURATION),
        ("ttl", {"days": 5}, NO_TEXT_OR_NUMBER),
        ("propagateLabels", "team", 'must be of type array: "string"'),
        ("propagateLabels", ["team", "team"], "Duplicate value"),
        ("propagateLabels[]", "", "should be at least 1 chars long"),
        ("propagateLabels[]", "my label!", "cannot be the key of a label; expected one such as"),
        ("propagateLabels[]", "a/b/c", "cannot be the key of a label; expected one such as"),
        ("propagateLabels[]", "x" * 64, "cannot be the key of a label; expected one such as"),
        ("reruns", "1", NO_WHOLE_NUMBER),
        ("reruns", -1, "greater than or equal to 0"),
        ("resumes", -1, "greater than or equal to 0"),
        ("replay", "Failed", 'must be of type object: "string"'),
        ("replay.number", 0, "greater than or equal to 1"),
        ("replay.requestedBy", "x" * 65, "may not be more than 64"),
        ("replay.from", "Middle", 'supported values: "Failed", "Start"'),
        ("onParentClose", "Explode", 'supported values: "Abandon", "Cancel"'),
    ],
    "WorkerPool": [
        ("template.metadata.labels", {"two words": "x"}, NO_KEY),
        ("template.metadata.labels{}", "two words", NO_VALUE),
        ("template.metadata.labels{}", "x" * 64, "may not be more than 63"),
        ("template.metadata.labels{}", True, 'must be of type string: "boolean"'),
        ("template.metadata.annotations", {"two words": "x"}, "has a key that an annotation can't have"),
        ("template.metadata.annotations{}", 1, 'must be of type string: "integer"'),
        ("template.spec.containers", [], "should have at least 1 items"),
        ("template.spec.containers[]", "etl:1", 'must be of type object: "string"'),
        ("slots", 0, "greater than or equal to 1"),
        ("minReplicas", -1, "greater than or equal to 0"),
        ("maxReplicas", 1001, "less than or equal to 1000"),
        ("maxReplicas", "many", NO_WHOLE_NUMBER),
        ("idleBeforeScaleIn", 60, NO_DURATION),
        ("idleBeforeScaleIn", True, NO_TEXT_OR_NUMBER),
        ("drainTimeout", "5min", NO_DURATION),
        ("drainTimeout", [], NO_TEXT_OR_NUMBER),
    ],
    "WebhookSource": [
        ("type", "GitLab", 'supported values: "GitHub", "Stripe", "StandardWebhooks", "HMAC"'),
        ("secretRef.name", "My Secret", "cannot be the name of a Secret"),
        ("secretRef.name", "", "should be at least 1 chars long"),
        ("secretRef.key", "a/b", "cannot be the key of a Secret"),
        ("eventKey", "", "should be at least 1 chars long"),
        ("eventKey", "x" * 1025, "may not be more than 1024"),
        ("hmac.header", "X Signature", "cannot be the name of a header"),
        ("hmac.header", None, "Required value"),
        ("hmac.prefix", "x" * 65, "may not be more than 64"),
        ("hmac.algorithm", "MD5", 'supported values: "SHA256", "SHA512"'),
        ("hmac.encoding", "Text", 'supported values: "Hex", "Base64"'),
        ("hmac.idHeader", "", "should be at least 1 chars long"),
        ("tolerance", "soon", NO_DURATION),
        ("tolerance", "0s", "is zero; expected more than zero"),
    ],
    "RateLimit": [
        ("key", "", "should be at least 1 chars long"),
        ("key", "x" * 257, "may not be more than 256"),
        ("limit", -1, "greater than or equal to 0"),
        ("limit", 1.5, 'must be of type integer: "number"'),
        ("limit", "ten", NO_WHOLE_NUMBER),
        ("limit", None, "Required value"),
        ("window", "minute", NO_DURATION),
        ("window", "0s", "is zero; expected more than zero"),
        ("window", None, "Required value"),
    ],
}
WRITTEN_BY_THE_OPERATOR = {"parent", "begunAs", "stickyWorker", "rerunRequestedBy", "execution", "executionRequestedBy"}
"""Of a run: nobody else may, and rules of several fields say the rest."""
FREE = {"input{}", "additionalMetadata{}", "crons[].input{}", "crons[].additionalMetadata{}"}


def leaves(schema: Json, path: str = "") -> Iterator[str]:
    """Name the fields that hold no other fields."""
    if properties := schema.get("properties"):
        for name, each in properties.items():
            yield from leaves(each, f"{path}.{name}" if path else name)
    elif isinstance(each := schema.get("additionalProperties"), dict):
        yield from leaves(each, path + "{}")
    elif "items" in schema:
        yield from leaves(schema["items"], path + "[]")
    else:
        yield path


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_has_a_bad_value(kind: str) -> None:
    (crd,) = (crd for crd in load_crds() if crd["spec"]["names"]["kind"] == kind)
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    fields = {leaf for leaf in leaves(spec) if leaf.split(".")[0] not in WRITTEN_BY_THE_OPERATOR} - FREE
    assert fields - {path for path, _, _ in BAD_VALUES[kind]} == set()


def with_value(spec: Json, path: str, value: Any) -> Json:
    """Return a spec that has ``value`` at ``path``, with one entry in each map and list on the way."""
    return merged(spec, nested(path, value))


def nested(path: str, value: Any) -> Any:
    for step in reversed(path.split(".")):
        for mark in (step[at : at + 2] for at in range(len(step) - 2, -1, -2)):
            if mark == "[]":
                value = [value]
            elif mark == "{}":
                value = {"one": value}
            else:
                break
        value = {step.rstrip("[]{}"): value}
    return value


def merged(below: Json, above: Json) -> Json:
    both = below.keys() & above.keys()
    inner = {key: merged(below[key], above[key]) for key in both if isinstance(below[key], dict)}
    return below | above | inner


@pytest.mark.parametrize("kind", KINDS)
async def test_each_bad_value_gets_a_sentence_at_its_place(api: Api, kind: str) -> None:
    wrong = []
    for number, (path, value, want) in enumerate(BAD_VALUES[kind]):
        body = KINDS[kind].make(f"bad-{number}", spec=with_value(VALID[kind], path, value))
        answer = await api.create(KINDS[kind], body)
        said = answer.body.get("message", "") if answer.status == 422 else f"{answer.status}"
        place = path.split("{}")[0].split("[]")[0]
        if want not in said or f"spec.{place}" not in said:
            wrong.append((path, str(value)[:80], said))
    assert wrong == []
