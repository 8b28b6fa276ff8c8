"""What Hatchet's SDK has and this one does not, and what to use instead; docs/sdk.md has the whole table."""

_READ = 'see "What it leaves out" in docs/sdk.md of hatchet-operator'

NAMES = {
    "StickyStrategy": "give each kind of work a WorkerPool of its own",
    "ConcurrencyLimitStrategy": "give the work a WorkerPool with maxReplicas and slots",
    "ConcurrencyExpression": "give the work a WorkerPool with maxReplicas and slots",
    "RateLimit": "give the work a WorkerPool with maxReplicas and slots",
    "RateLimitDuration": "give the work a WorkerPool with maxReplicas and slots",
    "WorkerLabelComparator": "give each kind of work a WorkerPool of its own",
    "DesiredWorkerLabel": "give each kind of work a WorkerPool of its own",
    "sync_to_async": "write a step as a plain function, or use asyncio.to_thread",
    "v2": "write workflows as classes",
}
"""Of the package."""

ATTRIBUTES = {
    "event": "start the workflow itself: hatchet.admin.run_workflow(name, input)",
    "rest": "runs are objects: kubectl get wfr, or any Kubernetes client",
    "runs": "runs are objects: kubectl get wfr, or any Kubernetes client",
    "client": "use hatchet.admin",
    "listener": "await the result of a run: hatchet.admin.get_workflow_run(id).result()",
    "concurrency": "give the work a WorkerPool with maxReplicas and slots",
    "task": "write workflows as classes",
    "durable_task": "write workflows as classes",
    "cron": "start the workflow by a CronJob",
    "scheduled": "start the workflow by a CronJob",
}
"""Of `Hatchet`."""

ARGUMENTS = {
    "on_events": "start the workflow itself: hatchet.admin.run_workflow(name, input)",
    "on_crons": "start the workflow by a CronJob",
    "concurrency": "give the work a WorkerPool with maxReplicas and slots",
    "sticky": "give each kind of work a WorkerPool of its own",
    "rate_limits": "give the work a WorkerPool with maxReplicas and slots",
    "desired_worker_labels": "give each kind of work a WorkerPool of its own",
    "input_validator": "call Model.model_validate(context.workflow_input())",
}
"""Of the decorators."""


def words_on(what: str, instead: str) -> str:
    return f"hatchet-operator's SDK has no {what} ({instead}); {_READ}"


def words_on_arguments(where: str, given: "dict[str, object]") -> str:
    """Say of all arguments at once that they are not known."""
    said = ", ".join(f"{name}= ({ARGUMENTS.get(name, 'unknown')})" for name in given)
    return f"{where} does not take {said}; {_READ}"
