"""Workflows: a registration becomes a definition."""

from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from hatchet_operator.dispatcher.v0.translation.rate_limits import step_rate_limit
from hatchet_operator.dispatcher.v0.translation.workers import desired_labels
from hatchet_operator.durations import parse_duration
from hatchet_operator.errors import InvalidRequest, Unsupported
from hatchet_operator.resources.nesting import parse_object
from hatchet_operator.resources.reasons import LimitStrategy, Record, RunOn, Stickiness
from hatchet_operator.resources.triggers import EventFilter
from hatchet_operator.resources.workflow import (
    GROUP_KEY_STEP,
    MAX_INPUT_SCHEMA,
    ConcurrencyLimit,
    Idempotency,
    StepDefinition,
    WorkflowDefinition,
)
from hatchet_sdk.contracts import workflows_pb2 as workflows_wire

_LONGEST_SHOWN = 80
_DEFAULT_TIMEOUT = "60s"
_DEFAULT_SCHEDULE_TIMEOUT = "5m"
_STICKY = {workflows_wire.SOFT: Stickiness.SOFT, workflows_wire.HARD: Stickiness.HARD}

_STRATEGIES = {
    workflows_wire.CANCEL_IN_PROGRESS: LimitStrategy.CANCEL_IN_PROGRESS,
    workflows_wire.DROP_NEWEST: LimitStrategy.CANCEL_NEWEST,
    workflows_wire.QUEUE_NEWEST: LimitStrategy.QUEUE_NEWEST,
    workflows_wire.GROUP_ROUND_ROBIN: LimitStrategy.GROUP_ROUND_ROBIN,
    workflows_wire.CANCEL_NEWEST: LimitStrategy.CANCEL_NEWEST,
    workflows_wire.CANCEL_QUEUED_EXCEPT_NEWEST: LimitStrategy.CANCEL_QUEUED_EXCEPT_NEWEST,
}


def workflow_definition(opts: workflows_wire.CreateWorkflowVersionOpts) -> WorkflowDefinition:
    """Read a registration.

    Raises:
        InvalidRequest: A part of it makes no sense; the message names workflow and step.
        Unsupported: It asks for a feature that is missing; the message names workflow and step.
    """
    where = f'workflow "{opts.name}"'
    if not opts.name:
        raise InvalidRequest("a workflow without a name can't be registered; give it one")
    unsupported = {
        "scheduled triggers": opts.scheduled_triggers,
    }
    if asked := [name for name, value in unsupported.items() if value]:
        raise Unsupported(f"{where} asks for {', '.join(asked)}, which this version does not have; remove them")
    steps = [step for job in opts.jobs for step in job.steps]
    on_failure = list(opts.on_failure_job.steps) if opts.HasField("on_failure_job") else []
    if len(on_failure) > 1:
        raise InvalidRequest(f"{where} has {len(on_failure)} on-failure steps; expected at most one")
    try:
        return WorkflowDefinition(
            name=opts.name,
            description=opts.description,
            version=opts.version,
            steps=tuple(_step(where, step) for step in steps),
            on_failure=_step(where, on_failure[0]) if on_failure else None,
            run_on=RunOn(opts.run_on) if opts.run_on else None,
            record=Record(opts.record) if opts.record else None,
            schedule_timeout=_duration(
                opts.schedule_timeout or _DEFAULT_SCHEDULE_TIMEOUT, f"{where}: its schedule timeout"
            ),
            sticky=_STICKY.get(opts.sticky) if opts.HasField("sticky") else None,
            default_priority=opts.default_priority if opts.HasField("default_priority") else None,
            concurrency=_concurrency(where, opts),
            group_key=_group_key(opts),
            idempotency=_idempotency(where, opts),
            input_schema=_input_schema(opts),
            **_triggers(opts),
        )
    except ValidationError as error:  # a name that is too long, a priority of 7
        raise InvalidRequest(f"{where} can't be registered: {_in_one_line(error)}") from error
    except ValueError as error:
        raise InvalidRequest(f"{where} can't be registered: {error}") from error


def _in_one_line(error: ValidationError) -> str:
    """Say what is wrong with which field: pydantic says it in lines that begin with the names of our classes."""
    problems = []
    for found in error.errors():
        field = ".".join(map(str, found["loc"])) or error.title
        given = repr(found["input"])
        shown = given if len(given) <= _LONGEST_SHOWN else f"{given[:_LONGEST_SHOWN]}…"
        problems.append(f"{field} is {shown} ({found['msg'].removeprefix('Value error, ')})")
    return "; ".join(problems)


def _concurrency(where: str, opts: workflows_wire.CreateWorkflowVersionOpts) -> tuple[ConcurrencyLimit, ...] | None:
    asked = [*([opts.concurrency] if opts.HasField("concurrency") else []), *opts.more_concurrency]
    return tuple(_limit(where, each) for each in asked) or None


def _limit(where: str, limit: workflows_wire.WorkflowConcurrencyOpts) -> ConcurrencyLimit:
    strategy = _STRATEGIES.get(limit.limit_strategy)
    if strategy is None:  # a later client's
        raise Unsupported(
            f"{where} asks for concurrency strategy {limit.limit_strategy}, which this version does not have; "
            f"use one of {', '.join(_STRATEGIES.values())}"
        )
    return ConcurrencyLimit(
        expression=limit.expression or ("group_key" if limit.action else ""),
        max_runs=limit.max_runs if limit.HasField("max_runs") else 1,
        strategy=strategy,
    )


def _idempotency(where: str, opts: workflows_wire.CreateWorkflowVersionOpts) -> Idempotency | None:
    if not opts.HasField("idempotency"):
        return None
    given = opts.idempotency
    if given.ttl_ms <= 0:
        raise InvalidRequest(f"{where}: its idempotency keys are kept for {given.ttl_ms} ms; expected more than 0")
    try:
        ttl = timedelta(milliseconds=given.ttl_ms)
    except OverflowError as error:
        raise InvalidRequest(
            f"{where}: its idempotency keys are kept for {given.ttl_ms} ms, which is too long"
        ) from error
    return Idempotency(expression=given.expression, ttl=ttl, until_end=given.until_end)


def _input_schema(opts: workflows_wire.CreateWorkflowVersionOpts) -> str | None:
    """Return the schema of the input; None: there is none, or it is too long, which is no reason to refuse the rest."""
    return opts.input_json_schema if 0 < len(opts.input_json_schema) <= MAX_INPUT_SCHEMA else None


def _group_key(opts: workflows_wire.CreateWorkflowVersionOpts) -> StepDefinition | None:
    """Make a step from the method that names the group; None: there is none, or an expression instead."""
    if not opts.concurrency.action or opts.concurrency.expression:
        return None
    return StepDefinition(
        name=GROUP_KEY_STEP, action=opts.concurrency.action.lower(), timeout=_duration(_DEFAULT_TIMEOUT, "its timeout")
    )


def _triggers(opts: workflows_wire.CreateWorkflowVersionOpts) -> dict[str, Any]:
    """Read what starts runs automatically; what makes no sense is reported in the workflow's status, not refused."""
    return {
        "crons": tuple(dict.fromkeys(opts.cron_triggers)) or None,
        "cron_input": opts.cron_input or None,
        "events": tuple(dict.fromkeys(opts.event_triggers)) or None,
        "event_filters": tuple(_event_filter(each) for each in opts.event_filters) or None,
    }


def _event_filter(given: workflows_wire.EventFilter) -> EventFilter:
    if given.payload:
        parse_object(given.payload, what=f"payload of the filter {given.expression!r}")
    return EventFilter(expression=given.expression, scope=given.scope, payload=given.payload or None)


def _step(where: str, step: workflows_wire.CreateWorkflowStepOpts) -> StepDefinition:
    here = f'{where}: step "{step.readable_id}"'
    if not step.readable_id:
        raise InvalidRequest(f"{where} has a step without a name; give it one")
    if step.retries < 0:
        raise InvalidRequest(f"{here} has {step.retries} retries; expected 0 or more")
    return StepDefinition(
        name=step.readable_id,
        action=step.action.lower(),
        parents=tuple(step.parents),
        timeout=_duration(step.timeout or _DEFAULT_TIMEOUT, f"{here}: its timeout"),
        retries=step.retries,
        backoff_factor=step.backoff_factor if step.HasField("backoff_factor") else None,
        backoff_max_seconds=step.backoff_max_seconds if step.HasField("backoff_max_seconds") else None,
        backoff_delays=tuple(_duration(delay, f"{here}: its backoff") for delay in step.backoff_delays) or None,
        backoff_jitter=step.backoff_jitter if step.HasField("backoff_jitter") else None,
        max_reassignments=step.max_reassignments if step.HasField("max_reassignments") else None,
        worker_labels=desired_labels(step.worker_labels, who=here),
        rate_limits=tuple(step_rate_limit(here, limit) for limit in step.rate_limits) or None,
    )


def _duration(text: str, what: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise InvalidRequest(f"{what}: {error}") from error
