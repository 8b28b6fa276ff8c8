"""What is known of a run, gathered for the translations: ids that clients want as UUIDs, and texts behind references.

A step's part in a run has two ids. Clients before 1.0 get the id of its attempt, as over gRPC. Clients from 1.0 on,
which ask for it by its id later, get one from which its run follows: `names.task_run_id`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.inputs import input_object, input_text
from hatchet_operator.resources.names import step_uuid, task_run_id, tenant_id
from hatchet_operator.resources.nesting import read_json
from hatchet_operator.resources.run import StepStatus, WorkflowRun
from hatchet_operator.resources.workflow import GROUP_KEY_STEP, StepDefinition

NO_TEXTS: Mapping[str, str] = {}


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenRun:
    """A run, and what else its translation may look at.

    Attributes:
        run: Its object.
        graph: The graph that the run executes; None: it is no longer known.
        workflow_id: UID of its workflow, or its name if there is no such object.
        workflow_name: The workflow's name as code spells it.
        parent_task_id: The task that spawned it.
        texts: What the references in it stand for; others are shown as they are.
        with_payloads: Whether input and outputs are shown.
    """

    run: WorkflowRun
    graph: Graph | None
    workflow_id: str
    workflow_name: str
    parent_task_id: str | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    with_payloads: bool = True

    @property
    def tenant(self) -> str:
        return tenant_id(self.run.metadata.namespace)

    @property
    def uid(self) -> str:
        return self.run.metadata.uid

    @property
    def created_at(self) -> datetime:
        created = self.run.metadata.creation_timestamp
        assert created is not None, "the API server sets it"
        return created

    @property
    def updated_at(self) -> datetime:
        status = self.run.status
        return status.finished_at or status.started_at or self.created_at

    @property
    def duration(self) -> int | None:
        """From start to finish, in milliseconds."""
        return self.run.status.duration_milliseconds

    @property
    def steps(self) -> list[str]:
        """The names of its steps, in an order that stays; the step that names a concurrency group is none of them."""
        return step_names(self.graph, self.run)

    @property
    def is_one_task(self) -> bool:
        """Whether its only step and the run are one thing for clients from 1.0 on."""
        return len(self.steps) == 1

    def step(self, name: str) -> StepDefinition | None:
        return self.graph.step(name) if self.graph else None

    def state(self, name: str) -> StepStatus:
        return self.run.status.steps.get(name, StepStatus())

    def task_id(self, name: str) -> str:
        return task_id_of(self.uid, self.steps, name)

    def step_id(self, name: str) -> str:
        return step_uuid(self.graph.revision if self.graph else self.uid, name)

    def input(self) -> dict[str, Any]:
        if not self.with_payloads:
            return {}
        given = input_text(self.run.spec)
        return read_object(self.texts[given]) if given in self.texts else input_object(self.run.spec)

    def output_text(self, name: str) -> str | None:
        """Return what a step returned, as JSON text; None: nothing, or nothing is shown."""
        output = self.state(name).output
        return None if output is None or not self.with_payloads else self.texts.get(output, output)

    def output(self, name: str) -> dict[str, Any]:
        text = self.output_text(name)
        return {} if text is None else read_object(text)


def step_names(graph: Graph | None, run: WorkflowRun) -> list[str]:
    """Return the names of a run's steps: those of its graph in its order, then what its status has besides."""
    known = [] if graph is None else [step.name for step in graph.steps]
    if graph is not None and graph.on_failure is not None:
        known.append(graph.on_failure.name)
    names = dict.fromkeys([*known, *sorted(run.status.steps)])
    names.pop(GROUP_KEY_STEP, None)
    return list(names)


def task_id_of(run_uid: str, steps: list[str], name: str) -> str:
    """Return the id of a task: that of its run, if it is the only one."""
    return run_uid if len(steps) == 1 or name not in steps else task_run_id(run_uid, steps.index(name) + 1)


def read_object(text: str) -> dict[str, Any]:
    """Read a JSON object; {}: it is something else."""
    try:
        value = read_json(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
