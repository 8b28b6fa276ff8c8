"""Pods that serve one run each, as they come and go, and what is known of them.

This is memory: `run_pods` decides and acts; what waits for such a pod asks here why it does.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from hatchet_operator.decisions.pooling import number_of
from hatchet_operator.decisions.run_pods import has_ended, run_uid_of
from hatchet_operator.engine.clock import Clock
from hatchet_operator.engine.dispatch.attempt import Attempt
from hatchet_operator.engine.tombstones import Tombstones
from hatchet_operator.resources.pod import Pod


@dataclass(slots=True, eq=False)
class RunPod:
    """A pod of a run, and what its status does not show."""

    seen: Pod
    ended_at: float | None = None
    lost: bool = False  # its worker is dead
    stopping: dict[str, float] = field(default_factory=dict)  # attempts that were told to stop, and since when

    @property
    def name(self) -> str:
        return self.seen.name

    @property
    def uid(self) -> str:
        return self.seen.uid


@dataclass(slots=True, eq=False)
class PodsOfRun:
    """The pods of one run, and why it lacks one."""

    pods: dict[str, RunPod] = field(default_factory=dict)  # by uid
    next_number: int = 0
    refusals: int = 0
    refused: str | None = None  # why there is no pod
    refused_until: float = 0.0
    room_until: float = 0.0  # a pod has just gone, and the quota may be updated a moment later
    trouble: str | None = None
    ending: str | None = None


class PodsOfRuns:
    """The pods of all such runs, by the runs' UIDs.

    Args:
        clock: Tells the time.
    """

    def __init__(self, *, clock: Clock) -> None:
        self._clock = clock
        self._runs: dict[str, PodsOfRun] = {}
        self._run_of_pod: dict[str, str] = {}
        self._pod_of_attempt: dict[str, str] = {}  # attempts that were told to stop
        self._gone = Tombstones()

    def __contains__(self, run_uid: str) -> bool:
        return run_uid in self._runs

    def __iter__(self) -> Iterator[str]:
        return iter(self._runs)

    def get(self, run_uid: str) -> PodsOfRun | None:
        return self._runs.get(run_uid)

    def known(self, run_uid: str) -> PodsOfRun:
        """Return what is known of a run's pods, from now on something."""
        return self._runs.setdefault(run_uid, PodsOfRun())

    def drop(self, run_uid: str) -> None:
        """Forget a run that has no pods left."""
        del self._runs[run_uid]

    # --- What others ask

    def trouble_of(self, run_uid: str) -> str | None:
        """Say why a run still waits for its pod; None: nothing is known to be wrong."""
        known = self._runs.get(run_uid)
        return known.trouble if known else None

    def ending_of(self, attempt: Attempt) -> str | None:
        """Say that the pod in which a step of this run runs is being deleted; None: it is not, or it is a pool's."""
        known = self._runs.get(attempt.run_uid) if attempt.run_uid is not None else None
        return known.ending if known else None

    # --- What is observed

    def saw(self, seen: Pod) -> str | None:
        """Note a pod's newest state; return the UID of its run, or None if it is another's or is gone."""
        run_uid = run_uid_of(seen)
        if run_uid is None or seen.uid in self._gone:
            return None
        known = self.known(run_uid)
        pod = known.pods.get(seen.uid)
        if pod is None:
            pod = known.pods[seen.uid] = RunPod(seen)
            self._run_of_pod[seen.uid] = run_uid
            known.next_number = max(known.next_number, number_of(seen) + 1)
        pod.seen = seen
        if pod.ended_at is None and has_ended(seen):
            pod.ended_at = self._clock.loop_time()
        return run_uid

    def forget(self, uid: str) -> str | None:
        """Forget a pod that is gone; return the UID of its run, if it was one of these."""
        self._gone.add(uid)
        run_uid = self._run_of_pod.pop(uid, None)
        if run_uid is None:
            return None
        pod = self._runs[run_uid].pods.pop(uid)
        for attempt_id in pod.stopping:
            self._pod_of_attempt.pop(attempt_id, None)
        return run_uid

    def pod(self, uid: str | None) -> RunPod | None:
        known = self._runs.get(self._run_of_pod.get(uid or "", ""))
        return known.pods.get(uid or "") if known else None

    # --- Attempts that were told to stop

    def stopping(self, pod: RunPod, attempt_id: str, since: float) -> None:
        """Note that an attempt in a pod was told to stop, and when."""
        pod.stopping.setdefault(attempt_id, since)
        self._pod_of_attempt[attempt_id] = pod.uid

    def stopped(self, attempt_id: str, *, in_pod: str | None) -> str | None:
        """Note that an attempt has ended; return the UID of its run, if it was told to stop.

        Args:
            attempt_id: The attempt.
            in_pod: The Pod of the worker that reports it; None: it did not say.
        """
        pod_uid = self._pod_of_attempt.get(attempt_id)
        if pod_uid is None or in_pod not in (None, pod_uid):
            return None
        pod = self.pod(pod_uid)
        if pod is None or pod.stopping.pop(attempt_id, None) is None:
            return None
        del self._pod_of_attempt[attempt_id]
        return self._run_of_pod[pod_uid]
