"""Carries out what people ask for on runs: read, decide, patch; again if somebody wrote meanwhile."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import RUNS
from hatchet_operator.decisions.acts import Act, Verdict, is_asked, plan_act, retried_in
from hatchet_operator.errors import Conflict, NotFound, Refused, UnknownObject
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.names import ObjectRef, root_label
from hatchet_operator.resources.run import WorkflowRun

Call = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """The result of an act on one run.

    Attributes:
        run: Which.
        verdict: What was decided.
        before: The run that it was decided about.
        written: What the API server answered; None: nothing was written.
    """

    run: ObjectRef
    verdict: Verdict
    before: WorkflowRun
    written: Json | None = None


async def act_on(api: Api, act: Act, ref: ObjectRef, *, is_patient: bool = False) -> list[Done]:
    """Apply an act to a run; a retry applies to everything below it, and so may begin with several runs.

    Args:
        api: Where it is.
        act: What to do.
        ref: The run.
        is_patient: Whether to retry unanswered requests until they are answered.

    Raises:
        UnknownObject: There is no such run.
        ApiError: The API server refuses, has no such kind or, unless we are patient, does not answer.
    """
    call: Call = api.until_answered if is_patient else _once
    run = await _read(api, ref, call)
    if act is not Act.RETRY:
        return [await _apply(api, act, run, call)]
    runs = retried_in(run, await _tree_of(api, run, call)) or [run]  # the run itself says why there are none
    return [await _apply(api, act, each, call) for each in runs]


async def _once(call: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
    return await call(*args, **kwargs)


async def _apply(api: Api, act: Act, run: WorkflowRun, call: Call) -> Done:
    while True:
        verdict = plan_act(act, run)
        if verdict.patch is None:
            return Done(run=run.ref, verdict=verdict, before=run)
        try:
            written = await call(api.patch, RUNS, run.ref.namespace, run.ref.name, verdict.patch)
        except Conflict:
            run = await _read(api, run.ref, call)
            if is_asked(run, verdict.patch):  # by ourselves, in a request whose answer was lost
                return Done(run=run.ref, verdict=verdict, before=run)
        except Refused as error:
            return Done(run=run.ref, verdict=Verdict(says=error.message, is_refused=True), before=run)
        else:
            return Done(run=run.ref, verdict=verdict, before=run, written=written)


async def _read(api: Api, ref: ObjectRef, call: Call) -> WorkflowRun:
    try:
        return WorkflowRun.model_validate(await call(api.get, RUNS, ref.namespace, ref.name))
    except NotFound as error:
        raise UnknownObject(f'there is no run "{ref.name}" in namespace "{ref.namespace}"') from error


async def _tree_of(api: Api, run: WorkflowRun, call: Call) -> list[WorkflowRun]:
    """Return the runs of the tree that a run is in."""
    root = run.metadata.labels.get(labels.ROOT) or root_label(run.metadata.name)
    items, _ = await call(api.list_all, RUNS, run.ref.namespace, label_selector=f"{labels.ROOT}={root}")
    return [WorkflowRun.model_validate(item) for item in items]
