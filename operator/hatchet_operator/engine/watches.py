"""The engine's own watches: of runs, pods and rate limits, in all namespaces that it acts in.

kopf watches the kinds of which there are few, and which people edit: see `handlers`.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.informer import Informer, until_synced
from hatchet_operator.cluster.kinds import PODS, RATE_LIMITS, RUNS
from hatchet_operator.cluster.namespaces import NamedNamespaces, NamespacedInformer, Namespaces
from hatchet_operator.decisions.shards import Scope
from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.engine.runs.observer import RunObserver
from hatchet_operator.resources import labels
from hatchet_operator.resources.base import Json
from hatchet_operator.resources.pod import Pod, read_pod

OnPod = Callable[[str, Pod], None]


class Watches:
    """Keeps informers running.

    Args:
        api: What is watched.
        scope: The namespaces.
        silence_seconds, turn_seconds: See `Informer`.
        metrics: Counts objects that could not be observed.
        on_absence: Called when the API server does not know one of our kinds.
        runs: Observes runs.
        on_limit: Observes rate limits.
        on_pod: Observe pods, one after the other.
    """

    def __init__(
        self,
        api: Api,
        scope: Scope,
        *,
        silence_seconds: float,
        turn_seconds: float,
        metrics: Metrics,
        on_absence: Callable[[], None],
        runs: RunObserver,
        on_limit: Callable[[str, Json], None],
        on_pod: tuple[OnPod, ...],
    ) -> None:
        self._api = api
        self._scope = scope
        self._inform = partial(Informer, api, silence_seconds=silence_seconds, turn_seconds=turn_seconds)
        self._metrics = metrics
        self._on_absence = on_absence
        self._runs = runs
        self._on_limit = on_limit
        self._on_pod = on_pod
        self._namespaces = _namespaces(api, scope, silence_seconds)
        self.runs = self._informer(self._inform_of_runs)
        self.pods = self._informer(self._inform_of_pods)
        self.limits = self._informer(self._inform_of_limits)
        self._informing: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Read everything there is, and go on watching.

        Limits first, since a run without them would be said to wait for them; pods before runs, since what known
        workers may have must not be assigned again.
        """
        for informer in self._all().values():
            informing = asyncio.create_task(informer.run())
            self._informing.append(informing)
            await until_synced(informing, informer.synced)

    async def run(self) -> None:
        """Run until a watch ends, which is an error of ours."""
        await asyncio.gather(*self._informing)

    async def stop(self) -> None:
        for task in self._informing:
            task.cancel()
        await asyncio.gather(*self._informing, return_exceptions=True)

    def heard_at(self) -> dict[str, float]:
        """Return when each watch last received something, in loop time."""
        return {name: each.last_event_at for name, each in self._all().items() if each.synced.is_set()}

    def _all(self) -> dict[str, Informer | NamespacedInformer]:
        ours: dict[str, Informer | NamespacedInformer] = {
            "rate limits": self.limits,
            "pods": self.pods,
            "runs": self.runs,
        }
        if not isinstance(self._namespaces, Namespaces):
            return ours
        return {"namespaces": self._namespaces.informer, **ours}

    def _informer(self, make: Callable[[str | None], Informer]) -> Informer | NamespacedInformer:
        """Make what informs of a kind's objects in our namespaces."""
        return make(None) if self._namespaces is None else NamespacedInformer(self._namespaces, make)

    def _inform_of_runs(self, namespace: str | None) -> Informer:
        return self._inform(
            RUNS,
            on_change=self._runs.observe,
            on_relist=partial(self._runs.listed, namespace=namespace),
            on_absence=self._on_absence,
            on_failure=self._metrics.not_observed.labels(resource=RUNS.plural).inc,
            is_known=self._runs.is_known,
            namespace=namespace,
        )

    def _inform_of_pods(self, namespace: str | None) -> Informer:
        return self._inform(
            PODS,
            on_change=self._observe_pod,
            on_failure=self._metrics.not_observed.labels(resource=PODS.plural).inc,
            namespace=namespace,
            label_selector=labels.POOL,
        )

    def _inform_of_limits(self, namespace: str | None) -> Informer:
        return self._inform(
            RATE_LIMITS,
            on_change=self._on_limit,
            on_absence=self._on_absence,
            on_failure=self._metrics.not_observed.labels(resource=RATE_LIMITS.plural).inc,
            namespace=namespace,
        )

    def _observe_pod(self, kind: str, obj: Json) -> None:
        pod = read_pod(obj)
        for observe in self._on_pod:
            observe(kind, pod)


def _namespaces(api: Api, scope: Scope, silence_seconds: float) -> Namespaces | NamedNamespaces | None:
    """Return what knows our namespaces; None: they are all that there are, and one watch has them all."""
    if scope.namespaces:
        return NamedNamespaces(scope.named)
    return Namespaces(api, covers=scope.covers, silence_seconds=silence_seconds) if scope.is_shard else None
