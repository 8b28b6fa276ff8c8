"""Where an attempt of a run may go, and how urgent it is: from the run's object, its graph and assigned attempts."""

from collections.abc import Mapping
from dataclasses import dataclass

from hatchet_operator.decisions.graph import Graph
from hatchet_operator.decisions.observed import Outcome
from hatchet_operator.decisions.placing import Requirement, required_labels
from hatchet_operator.decisions.sticking import UNBOUND, Binding, Taken, binding, sticks_to
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.runs.records import RunRecord
from hatchet_operator.resources.reasons import Execution, LossKind, Stickiness
from hatchet_operator.resources.worker_labels import DesiredLabel, StickyWorker
from hatchet_operator.resources.workflow import StepDefinition


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where an attempt may go, and how urgent it is."""

    priority: int
    desired: Mapping[str, DesiredLabel] | None
    required: tuple[Requirement, ...]
    binding: Binding

    def apply(self, attempt: Attempt) -> None:
        attempt.priority, attempt.desired, attempt.required = self.priority, self.desired, self.required
        attempt.bound_to, attempt.preferred_worker = self.binding.only, self.binding.preferred


def placement_of(record: RunRecord, graph: Graph, step: StepDefinition) -> Placement:
    spec = record.run.spec
    return Placement(
        priority=spec.priority or graph.priority,
        desired=step.worker_labels,
        required=required_labels(step.worker_labels),
        binding=_binding_of(record, graph),
    )


def _binding_of(record: RunRecord, graph: Graph) -> Binding:
    if graph.sticky is Stickiness.NONE or graph.execution is Execution.POD:  # whose pod takes all steps anyway
        return UNBOUND
    run = record.run
    worker = sticks_to(
        graph.sticky, written=run.status.sticky_worker, asked=run.spec.sticky_worker, taken=taken_of(record)
    )
    return binding(graph.sticky, worker)


def taken_of(record: RunRecord) -> list[Taken]:
    """Return the steps of a run that are assigned, except for those that their worker never began."""
    taken = []
    for step, attempt in record.attempts.items():
        report = record.reports.get(step)
        never_began = report is not None and report.outcome is Outcome.LOST and report.loss is LossKind.NOT_STARTED
        if attempt.worker is not None and attempt.started_at is not None and not never_began:
            worker = StickyWorker(id=attempt.worker.id, name=attempt.worker.shown_name)
            taken.append(Taken(worker, attempt.started_at))
    return taken
