"""What the status of a WebhookSource says, in words and conditions."""

from datetime import datetime

from hatchet_operator.decisions.conditions import Aspect, make_conditions, with_readiness
from hatchet_operator.decisions.expressions import EVENT_KEY, expression_problem
from hatchet_operator.resources.reasons import ConditionType, Reason
from hatchet_operator.resources.webhook_source import WebhookSource, WebhookSourceStatus


def webhook_path(source: WebhookSource) -> str:
    """Return the path that a sender must send to."""
    return f"/v1/namespaces/{source.metadata.namespace}/webhooks/{source.metadata.name}"


def is_secret_told(status: WebhookSourceStatus) -> bool:
    """Whether a status says that the Secret exists."""
    return any(one.type == ConditionType.SECRET_FOUND and one.status == "True" for one in status.conditions)


def webhook_status(
    source: WebhookSource, *, secret_problem: str | None, listens: bool, now: datetime
) -> WebhookSourceStatus:
    """Return the status as it should be.

    Args:
        source: The source.
        secret_problem: What is wrong with its Secret; None: nothing.
        listens: Whether the operator has a port for events.
        now: The transition time of conditions that change.
    """
    bad_key = expression_problem(source.spec.event_key, EVENT_KEY) if source.spec.event_key is not None else None
    valid = Aspect(ConditionType.VALID, True, Reason.VALID)
    if bad_key is not None:
        valid = Aspect(ConditionType.VALID, False, Reason.INVALID_SPEC, f"spec.eventKey: {bad_key}")
    secret = Aspect(ConditionType.SECRET_FOUND, True, Reason.SECRET_FOUND)
    if secret_problem is not None:
        secret = Aspect(ConditionType.SECRET_FOUND, False, Reason.SECRET_MISSING, secret_problem)
    listening = Aspect(ConditionType.LISTENING, True, Reason.LISTENING, f"at {webhook_path(source)}")
    if not listens:
        message = "the operator has no port for events; give it one: events.port of the chart, or --events-port"
        listening = Aspect(ConditionType.LISTENING, False, Reason.NO_PORT, message)
    stalled = next((one for one in (valid, listening) if not one.is_true), None)
    aspects = with_readiness((listening, valid, secret), stalled=stalled)
    return WebhookSourceStatus(
        path=webhook_path(source),
        conditions=make_conditions(
            aspects, before=source.status.conditions, generation=source.metadata.generation, now=now
        ),
        observed_generation=source.metadata.generation or None,
    )
