"""What Hatchet's SDK has and this one lacks, and what to use instead; docs/sdk.md has the whole table."""

_READ = 'see "What it leaves out" in docs/sdk.md of hatchet-operator'

NAMES = {
    "sync_to_async": "write a step as a plain function, or use asyncio.to_thread",
    "v2": "write workflows as classes",
}
"""Of the package."""

ATTRIBUTES = {
    "rest": "use hatchet.runs",
    "client": "use hatchet.admin",
    "task": "write workflows as classes",
    "durable_task": "write workflows as classes",
    "cron": "give on_crons= to the workflow, or spec.crons to its Workflow object",
    "scheduled": "call hatchet.admin.schedule_workflow()",
}
"""Of `Hatchet`."""

ARGUMENTS = {
    "desired_worker_labels": "the on-failure step goes to any worker",
    "rate_limits": "they are said of steps",
    "logger": "use Python's logging: hatchet_sdk logs to the logger of its name",
    "tenant_id": "the token says the namespace",
    "server_url": "this SDK needs no REST API; give host_port",
    "listener_v2_timeout": "the SDK keeps its stream alive itself",
    "grpc_max_recv_message_length": "the limits are fixed: docs/limits.md",
    "grpc_max_send_message_length": "the limits are fixed: docs/limits.md",
    "worker_healthcheck": "set HATCHET_CLIENT_WORKER_HEALTHCHECK_ENABLED in the environment",
    "healthcheck": "set HATCHET_CLIENT_WORKER_HEALTHCHECK_ENABLED in the environment",
    "debug": "give it to Hatchet(debug=True)",
    "tls_config": "give tls_strategy, tls_root_ca_file and so on themselves",
}
"""Of the decorators and `ClientConfig`."""


def words_on(what: str, instead: str) -> str:
    return f"hatchet-operator's SDK has no {what} ({instead}); {_READ}"


def words_on_arguments(where: str, given: "dict[str, object]") -> str:
    """Say about all unknown arguments at once that they are not known."""
    said = ", ".join(f"{name}= ({ARGUMENTS.get(name, 'unknown')})" for name in given)
    return f"{where} does not take {said}; {_READ}"
