"""Reads what commands show, in pages: one list for a family of runs, however large it is."""

from collections.abc import AsyncIterator

from hatchet_cli.place import CliError, Cluster
from hatchet_cli.tree import RunNode, make_tree
from hatchet_operator.cluster.kinds import POOLS, RUNS, WORKFLOWS
from hatchet_operator.errors import NotFound
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.run import WorkflowRun
from hatchet_operator.resources.workerpool import WorkerPool
from hatchet_operator.resources.workflow import Workflow


async def read_run(cluster: Cluster, name: str) -> Json:
    """Read one run.

    Raises:
        CliError: There is no run of that name.
    """
    try:
        return await cluster.api.get(RUNS, cluster.namespace, name)
    except NotFound as error:
        raise CliError(
            f'there is no run "{name}" in namespace "{cluster.namespace}"; "kubectl hatchet list" shows what is there'
        ) from error


async def read_runs(
    cluster: Cluster, *, label_selector: str | None = None, field_selector: str | None = None
) -> AsyncIterator[Json]:
    """Yield runs, in the order of their names."""
    async for page in cluster.api.list_pages(
        RUNS, cluster.namespace, label_selector=label_selector, field_selector=field_selector
    ):
        for item in page.items:
            yield item


async def read_names(cluster: Cluster) -> dict[str, str]:
    """Return the exact names of workflows by the names of their objects, where they are known."""
    return {name: workflow.exact_name for name, workflow in (await read_workflows(cluster)).items()}


async def read_workflows(cluster: Cluster) -> dict[str, Workflow]:
    items, _ = await cluster.api.list_all(WORKFLOWS, cluster.namespace)
    found = [Workflow.model_validate(item) for item in items]
    return {each.metadata.name: each for each in found}


async def read_pools(cluster: Cluster) -> dict[str, WorkerPool]:
    items, _ = await cluster.api.list_all(POOLS, cluster.namespace)
    found = [WorkerPool.model_validate(item) for item in items]
    return {each.metadata.name: each for each in found}


async def read_tree(cluster: Cluster, name: str) -> RunNode:
    """Read a run and all runs below it: three requests, and one more for each 500 runs of its family."""
    run = WorkflowRun.model_validate(await read_run(cluster, name))
    family = [
        WorkflowRun.model_validate(item)
        async for item in read_runs(cluster, label_selector=family_selector(run))
        if item["metadata"]["uid"] != run.metadata.uid
    ]
    node = make_tree([run, *family], run.metadata.uid, names=await read_names(cluster))
    assert node is not None, "it is among them"
    return node


def family_selector(run: WorkflowRun) -> str:
    """Return a selector for the whole tree that a run belongs to.

    A root only has the label itself once it has a child; the runs below it always do.
    """
    return f"{labels.ROOT}={run.metadata.labels.get(labels.ROOT, run.metadata.name)}"
