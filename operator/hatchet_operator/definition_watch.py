"""Whether the API server has the CRDs that the operator needs: waits for what is missing, and says so.

    start ─► until_complete ─► serve, and meanwhile keep_looking

A missing or outdated CRD is told in the log, in the state of `/readyz`, on pools and as an Event of the operator's Pod.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from hatchet_operator.cluster.api import Api, always
from hatchet_operator.cluster.definitions import HOW_TO_MEND, definition_problems
from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.events import warn_on_pod
from hatchet_operator.errors import ApiError
from hatchet_operator.pace import Pace
from hatchet_operator.resources.base import ObjectMeta
from hatchet_operator.resources.reasons import Reason
from hatchet_operator.settings import Settings

log = logging.getLogger(__name__)


class DefinitionWatch:
    """Checks the CRDs for as long as the process runs.

    Args:
        endpoint: The API server.
        settings: Say which Pod the operator is.
        pace: How long it waits between two checks.
        tell: Called with what is missing, whenever that changes, and with None when everything is there again.
        is_watching: Whether some watch of ours would suggest a check; without one, the CRDs are checked now and then.

    Attributes:
        namespaces: Those that are served; empty: all.
        answered: Whether the API server has answered at all.
        missing: What is missing, or outdated, as sentences; empty: nothing is, or it is not known yet.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: Settings,
        *,
        pace: Pace,
        tell: Callable[[str | None], None],
        is_watching: Callable[[], bool],
    ) -> None:
        self._endpoint = endpoint
        self._settings = settings
        self._pace = pace
        self._tell = tell
        self._is_watching = is_watching
        self._suspected = asyncio.Event()  # set if something may be missing
        self._looking = asyncio.Lock()  # one at a time, so that each problem is reported once
        self.namespaces = settings.namespaces
        self.answered = False
        self.missing: tuple[str, ...] = ()

    def suspect(self) -> None:
        """Have the CRDs checked soon: a watch of ours found a kind missing."""
        self._suspected.set()

    async def is_complete(self) -> bool:
        """Check once, on a connection of its own; a check that gets no answer is repeated."""
        async with self._own_api() as api:
            return not await api.until_answered(definition_problems, api, self.namespaces)

    async def until_complete(self, api: Api | None = None) -> None:
        """Wait until nothing is missing; say what is, once.

        Args:
            api: The connection to ask on; None: one of its own.
        """
        if api is None:
            async with self._own_api() as own:
                await self.until_complete(own)
        else:
            async with self._looking:
                await self._look_until_complete(api)

    async def keep_looking(self, api: Api) -> None:
        """Check when something suggests it, and now and then while none of our watches could, forever."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._suspected.wait(), self._pace.standby_looks)
            if self._suspected.is_set() or not self._is_watching():
                self._suspected.clear()
                try:
                    await self.until_complete(api)
                except ApiError as error:  # for example, a right was revoked; the suspicion may still be correct
                    log.warning("CRDs not looked at, trying again", extra={"error": str(error)})
                    await asyncio.sleep(self._pace.look_again)
                    self._suspected.set()

    def _own_api(self) -> Api:
        return Api(self._endpoint, on_no_answer=log_no_answer, may_write=always)

    async def _look_until_complete(self, api: Api) -> None:
        told: tuple[str, ...] = ()
        while problems := await api.until_answered(definition_problems, api, self.namespaces):
            self.answered = True
            self.missing = problems
            if problems != told:
                told = problems
                await self._tell_what_is_missing(api, problems)
            await asyncio.sleep(self._pace.look_again)
        self.answered = True
        if self.missing:
            self.missing = ()
            log.info("all CRDs are there, going on")
            self._tell(None)

    async def _tell_what_is_missing(self, api: Api, problems: tuple[str, ...]) -> None:
        message = f"{'; '.join(problems)}: {HOW_TO_MEND}"
        log.error("CRDs are missing, waiting for them", extra={"problem": message})
        self._tell(message)
        settings = self._settings
        if settings.pod_name is not None:
            pod = ObjectMeta(name=settings.pod_name, namespace=settings.operator_namespace, uid=settings.pod_uid or "")
            await warn_on_pod(api, pod, Reason.DEFINITION_MISSING, message)


def log_no_answer(error: ApiError) -> None:
    """Log that the API server does not answer: what `Api` calls before it tries again."""
    log.warning("API server does not answer, trying again", extra={"error": str(error)})
