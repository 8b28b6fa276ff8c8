"""Reads what a decorated class declares, once, and checks it: after this a workflow is valid or was refused."""

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial, partialmethod
from graphlib import CycleError, TopologicalSorter
from types import CellType
from typing import Any

from hatchet_sdk._client.durations import duration_problem
from hatchet_sdk._client.json_text import JsonObject, encode_object
from hatchet_sdk._client.rate_limits import rate_limits_problem
from hatchet_sdk._client.typed import input_model, result_model
from hatchet_sdk._client.validation import is_validator
from hatchet_sdk._runner.concurrency import ConcurrencyExpression, concurrency_problem, naming_step
from hatchet_sdk._runner.definition import OPTIONS, Step, StepFunction, StepOptions, WorkflowDefinition
from hatchet_sdk._runner.sticky import StickyStrategy
from hatchet_sdk._runner.worker_labels import desired_labels_problem
from hatchet_sdk.errors import InvalidDefinition

_LONGEST_NAME = 253  # of an object in Kubernetes
_RECORDS = ("full", "result")
_MOST_LIMITS = 8
_MOST_DELAYS = 32
_MOST_TRIGGERS = 100
_LARGEST = 2**31 - 1  # the protocol's limit
_NO_METHODS = (staticmethod, classmethod, property)
_RUN_ON = ("failure", "cancel", "failure_or_cancel", "always")


def define_workflow(
    cls: type,
    *,
    name: str,
    version: str,
    timeout: str,
    schedule_timeout: str,
    default_priority: int | None,
    sticky: StickyStrategy | None = None,
    concurrency: tuple[ConcurrencyExpression, ...] = (),
    on_events: Sequence[str] | None = None,
    on_crons: Sequence[str] | None = None,
    cron_input: JsonObject | None = None,
    input_validator: type[Any] | None = None,
    record: str | None = None,
) -> WorkflowDefinition:
    """Read a class whose steps are marked.

    Raises:
        InvalidDefinition: It declares something impossible; the message names workflow and step.
    """
    name = name or cls.__name__
    where = f'workflow "{name}"'
    _check_text(name, where)
    _check_version(version, where)
    _check_duration(timeout, f"{where}: timeout")
    _check_duration(schedule_timeout, f"{where}: schedule_timeout")
    if default_priority is not None:
        _check_whole(default_priority, f"{where}: default_priority", expected="1 to 3")
    input_validator = input_model(cls) if input_validator is None else input_validator
    result_model(cls)  # refused here if it is none, not by whoever starts the first run
    if input_validator is not None and not is_validator(input_validator):
        raise InvalidDefinition(f"{where}: input_validator is {input_validator!r} (expected a pydantic model: a class)")
    _check_policies(where, sticky=sticky, record=record, concurrency=concurrency)
    found = [
        _read_step(attribute, function, options, where)
        for attribute, (function, options) in _marked_functions(cls).items()
    ]
    steps, on_failure, group_key = _by_purpose(found, where)
    _check_names(found, where)
    _check_graph(steps, where)
    return WorkflowDefinition(
        name=name,
        version=version,
        schedule_timeout=schedule_timeout,
        default_priority=None if default_priority is None else min(max(default_priority, 1), 3),
        steps=steps,
        on_failure=on_failure,
        sticky=sticky,
        concurrency=concurrency,
        group_key=group_key,
        input_validator=input_validator,
        record=record,
        on_events=_texts(on_events, f"{where}: on_events", longest=1024),
        on_crons=_texts(on_crons, f"{where}: on_crons", longest=256),
        cron_input=None if cron_input is None else encode_object(cron_input, what=f"{where}: cron_input"),
    )


def _check_version(version: object, where: str) -> None:
    if not isinstance(version, str) or len(version) > _LONGEST_NAME or not _is_sendable(version):
        raise InvalidDefinition(
            f"{where}: version is {version!r} (expected a text of at most {_LONGEST_NAME} characters)"
        )


def _check_policies(
    where: str, *, sticky: object, record: str | None, concurrency: tuple[ConcurrencyExpression, ...]
) -> None:
    if sticky is not None and not isinstance(sticky, StickyStrategy):
        raise InvalidDefinition(f"{where}: sticky is {sticky!r} (expected StickyStrategy.SOFT or StickyStrategy.HARD)")
    if record not in (None, *_RECORDS):
        raise InvalidDefinition(f"{where}: record is {record!r} (expected {' or '.join(map(repr, _RECORDS))})")
    for limit in concurrency:
        if (problem := concurrency_problem(limit)) is not None:
            raise InvalidDefinition(f"{where}: {problem}")
    if len(concurrency) > _MOST_LIMITS:
        raise InvalidDefinition(f"{where}: concurrency has {len(concurrency)} limits (expected at most {_MOST_LIMITS})")


def _by_purpose(found: list[Step], where: str) -> tuple[tuple[Step, ...], Step | None, Step | None]:
    """Return the ordinary steps, the on-failure step, and the method that names the concurrency group."""
    steps = tuple(step for step in found if not step.options.on_failure and step.options.group is None)
    groups = [step for step in found if step.options.group is not None]
    on_failure = [step for step in found if step.options.on_failure]
    if not steps:
        raise InvalidDefinition(f"{where} has no steps (expected at least one method decorated with @hatchet.step())")
    if len(on_failure) > 1:
        raise InvalidDefinition(f"{where} has {len(on_failure)} on-failure steps (expected at most one)")
    if len(groups) > 1:
        raise InvalidDefinition(
            f"{where} has {len(groups)} methods that name its concurrency group (expected at most one)"
        )
    return steps, on_failure[0] if on_failure else None, groups[0] if groups else None


def _texts(values: Sequence[str] | None, what: str, *, longest: int) -> tuple[str, ...]:
    if isinstance(values, str):
        raise InvalidDefinition(f'{what} is "{values}" (expected a list: ["{values}"])')
    if values is None:
        return ()
    if isinstance(values, Mapping) or not isinstance(values, Iterable):
        raise InvalidDefinition(f"{what} is {values!r} (expected a list of texts)")
    found = tuple(dict.fromkeys(values))
    for value in found:
        if not isinstance(value, str) or not value.strip() or not _is_sendable(value):
            raise InvalidDefinition(f"{what} has {value!r} (expected texts)")
        if len(value) > longest:
            raise InvalidDefinition(f"{what} has one of {len(value)} characters (expected at most {longest})")
    if len(found) > _MOST_TRIGGERS:
        raise InvalidDefinition(f"{what} has {len(found)} entries (expected at most {_MOST_TRIGGERS})")
    return found


def _marked_functions(cls: type) -> dict[str, tuple[StepFunction, StepOptions]]:
    """Return the steps of a class in the order of their definition, inherited ones first, overridden ones once."""
    found: dict[str, tuple[StepFunction, StepOptions]] = {}
    for base in reversed(cls.__mro__):
        for attribute, value in vars(base).items():
            where = f"step {cls.__name__}.{attribute}"
            if isinstance(options := getattr(value, OPTIONS, None), StepOptions):
                found[attribute] = (value, options)
            elif _hides_step(value, None if isinstance(value, _NO_METHODS) else attribute):
                raise InvalidDefinition(f"{where} {_how_hidden(value)}")
            elif found.pop(attribute, None) is not None and value is not None:
                raise InvalidDefinition(
                    f"{where} is overridden by what is no step (expected @hatchet.step() on it as well; or "
                    f"{attribute} = None, to leave the step out)"
                )
    return found


def _hides_step(value: object, name: str | None, depth: int = 3) -> bool:
    """Return whether a step, of this name if any, is somewhere inside of a value that is not marked as one itself."""
    return any(
        name in (None, each.__name__)
        if inspect.isfunction(each) and OPTIONS in vars(each)
        else depth > 1 and _hides_step(each, name, depth - 1)
        for each in _inside(value)
    )


def _inside(value: object) -> Iterable[object]:
    """Return what a wrapper wraps, without asking it: it may be anybody's object, which does something when asked."""
    if inspect.isfunction(value):
        return [cell.cell_contents for cell in value.__closure__ or () if cell != CellType()]
    if isinstance(value, staticmethod | classmethod):
        return [value.__func__]
    if isinstance(value, property):
        return [value.fget]
    if isinstance(value, partial | partialmethod):
        return [value.func]
    if isinstance(value, type):
        return []
    try:
        return list(object.__getattribute__(value, "__dict__").values())
    except AttributeError:
        return []


def _how_hidden(value: object) -> str:
    if inspect.isfunction(value):
        return "is hidden by its decorator (expected functools.wraps() in that one, or @hatchet.step() above it)"
    return f"is a {type(value).__name__} (expected a method: self, context)"


def _read_step(attribute: str, function: StepFunction, options: StepOptions, where: str) -> Step:
    if options.group is not None:
        if (problem := concurrency_problem(options.group)) is not None:
            raise InvalidDefinition(f'{where}, method "{attribute}": {problem}')
        function = naming_step(function)
    name = options.name or _name_of(function, attribute)
    where = f'{where}, step "{name}"'
    _check_text(name, where)
    _check_duration(options.timeout, f"{where}: timeout")
    _check_whole(options.retries, f"{where}: retries", expected="0 or more")
    if options.retries < 0:
        raise InvalidDefinition(f"{where}: retries is {options.retries} (expected 0 or more)")
    if options.max_reassignments is not None:
        _check_whole(options.max_reassignments, f"{where}: max_reassignments", expected="0 or more")
        if options.max_reassignments < 0:
            raise InvalidDefinition(f"{where}: max_reassignments is {options.max_reassignments} (expected 0 or more)")
    _check_backoff(options, where)
    if options.run_on not in _RUN_ON:
        raise InvalidDefinition(f"{where}: run_on is {options.run_on!r} (expected {' or '.join(map(repr, _RUN_ON))})")
    if (problem := desired_labels_problem(options.desired_worker_labels, where)) is not None:
        raise InvalidDefinition(problem)
    if (problem := rate_limits_problem(options.rate_limits, where)) is not None:
        raise InvalidDefinition(problem)
    _check_parameters(function, where)
    _check_parents(options.parents, where)
    parents = tuple(dict.fromkeys(parent.lower() for parent in options.parents))
    return Step(name=name.lower(), function=function, parents=parents, options=options)


def _name_of(function: StepFunction, attribute: str) -> str:
    name: str = getattr(function, "__name__", attribute)  # partials and callable objects have none
    return name if name.isidentifier() else attribute  # a lambda


def _check_parameters(function: StepFunction, where: str) -> None:
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        raise InvalidDefinition(
            f"{where} takes {inspect.signature(function)} (expected self and one argument, the context)"
        ) from None
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidDefinition(
            f"{where} has a yield, so none of it would run (expected a function that returns a mapping; "
            "context.put_stream() sends what there is before)"
        )


def _check_parents(parents: object, where: str) -> None:
    if isinstance(parents, str):
        raise InvalidDefinition(f'{where}: parents is "{parents}" (expected a list: ["{parents}"])')
    if not isinstance(parents, Sequence):
        raise InvalidDefinition(f"{where}: parents is {parents!r} (expected a list of names)")
    for parent in parents:
        if not isinstance(parent, str):
            given = getattr(parent, "__name__", None)
            raise InvalidDefinition(
                f"{where}: parents has {parent!r} (expected names of steps" + (f', as "{given}")' if given else ")")
            )


def _check_backoff(options: StepOptions, where: str) -> None:
    if (factor := options.backoff_factor) is not None and not (_is_number(factor) and factor >= 1):
        raise InvalidDefinition(f"{where}: backoff_factor is {factor!r} (expected a number, 1 or more)")
    if (jitter := options.backoff_jitter) is not None and not (_is_number(jitter) and 0 <= jitter <= 1):
        raise InvalidDefinition(f"{where}: backoff_jitter is {jitter!r} (expected a number from 0 to 1)")
    if (longest := options.backoff_max_seconds) is not None:
        _check_whole(longest, f"{where}: backoff_max_seconds", expected="1 or more")
        if longest < 1:
            raise InvalidDefinition(f"{where}: backoff_max_seconds is {longest} (expected more than 0)")
    if (delays := options.backoff_delays) is None:
        return
    if isinstance(delays, str) or not isinstance(delays, Sequence) or not 1 <= len(delays) <= _MOST_DELAYS:
        raise InvalidDefinition(
            f"{where}: backoff_delays is {delays!r} (expected a list of 1 to {_MOST_DELAYS} durations)"
        )
    if factor is not None:
        raise InvalidDefinition(f"{where}: it has backoff_delays and backoff_factor (expected one of them)")
    for position, delay in enumerate(delays):
        _check_duration(delay, f"{where}: backoff_delays[{position}]")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_text(name: str, where: str) -> None:
    if not name.strip():
        raise InvalidDefinition(f"{where}: the name is empty (expected a text)")
    if len(name) > _LONGEST_NAME:
        raise InvalidDefinition(
            f"{where[:80]}…: the name has {len(name)} characters (expected at most {_LONGEST_NAME})"
        )
    if not _is_sendable(name):
        raise InvalidDefinition(f"{name!r}: the name has half of a surrogate pair, which is no text (expected UTF-8)")


def _is_sendable(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)  # half of a surrogate pair


def _check_whole(value: object, what: str, *, expected: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidDefinition(f"{what} is {value!r} (expected a whole number, {expected})")
    if value > _LARGEST:
        raise InvalidDefinition(f"{what} is {value} (expected at most {_LARGEST})")


def _check_duration(text: str, what: str) -> None:
    if problem := duration_problem(text, what):
        raise InvalidDefinition(problem)


def _check_names(steps: list[Step], where: str) -> None:
    first: dict[str, Step] = {}
    for step in steps:
        if (other := first.setdefault(step.name, step)) is not step:
            raise InvalidDefinition(
                f'{where}: two steps are named "{step.name}": '
                f"{_shown(other.function)} and {_shown(step.function)} (names are compared in lower case)"
            )


def _shown(function: StepFunction) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


def _check_graph(steps: tuple[Step, ...], where: str) -> None:
    names = {step.name for step in steps}
    for step in steps:
        for parent in step.parents:
            if parent not in names:
                raise InvalidDefinition(
                    f'{where}, step "{step.name}" names parent "{parent}", which is not defined '
                    f"(defined: {', '.join(sorted(names))})"
                )
    try:
        TopologicalSorter({step.name: step.parents for step in steps}).prepare()
    except CycleError as error:
        raise InvalidDefinition(f"{where}: steps wait for each other: {' -> '.join(reversed(error.args[1]))}") from None
