"""Objects of one kind, as a stream of changes that never ends: list, watch, and a relist that diffs.

The trap that this avoids: after a 410 an object may have been deleted without an event. A relist compares what the
server has with what was passed on, and synthesizes the missing DELETED events: at its end, except for an object whose
name another has by now, whose event comes before that one's. A list that is cut off in the middle starts again; what
was passed on of it is known, and so is compared with what the next one has.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable

from hatchet_operator.backoff import NO_WATCH
from hatchet_operator.cluster.api import Api
from hatchet_operator.cluster.kinds import Resource
from hatchet_operator.cluster.turns import Turns
from hatchet_operator.errors import ApiError, Gone, NotFound, Transient
from hatchet_operator.pace import TURN_SECONDS
from hatchet_operator.resources.base import Json

log = logging.getLogger(__name__)

UidOf = Callable[[str, str], str | None]
"""Returns the UID of the object with a name in a namespace; None: there is none."""

_SHORTEST_WATCH_SECONDS = 0.5  # the server was asked to keep it open for much longer


class Informer:
    """Passes on every change of a kind's objects, in order, each object's newest state at least once.

    Args:
        api: The API server.
        resource: The kind.
        on_change: Called with ("ADDED" | "MODIFIED" | "DELETED", object); must not block.
        on_relist: Called with the list's resourceVersion, and with a lookup of the UIDs in it by namespace and
            name, after all of it was passed on: for a consumer that also learns of objects in other ways, and would
            not be told that one of these is gone.
        on_absence: Called when the server does not know the kind, or no longer does.
        on_failure: Called after an error of `on_change`, which is logged and does not stop other objects.
        is_known: Called with the resourceVersion of an object that was added or modified; true: the consumer knows this
            state of it, and is not told. Only for a consumer with `on_relist`.
        namespace: Only this namespace; None: all.
        label_selector: Only objects with these labels.
        field_selector: Only objects with these fields.
        silence_seconds: A watch that is silent for this long is cut off; the server ends it well before.
        turn_seconds: How long a list or a watch occupies the event loop at once.
    """

    def __init__(
        self,
        api: Api,
        resource: Resource,
        *,
        on_change: Callable[[str, Json], None],
        on_relist: Callable[[str, UidOf], Awaitable[None]] | None = None,
        on_absence: Callable[[], None] | None = None,
        on_failure: Callable[[], None] = lambda: None,
        is_known: Callable[[int], bool] | None = None,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
        silence_seconds: float = 75,
        turn_seconds: float = TURN_SECONDS,
    ) -> None:
        self._api = api
        self._resource = resource
        self._on_change = on_change
        self._on_relist = on_relist
        self._on_absence = on_absence
        self._on_failure = on_failure
        self._is_known = is_known
        self._namespace = namespace
        self._selectors = {"label_selector": label_selector, "field_selector": field_selector}
        self._silence_seconds = silence_seconds
        self._turn_seconds = turn_seconds
        self._known: dict[str, dict[str, str]] = {}  # UIDs by namespace and name: what a DELETED event needs
        self.synced = asyncio.Event()
        self._version: str | None = None  # up to which changes were passed on; None: a list has to say
        self.relists = 0
        self.last_event_at = 0.0

    async def run(self) -> None:
        """Run forever; errors lead to another try, with backoff."""
        failures = 0
        while True:
            try:
                if self._version is None:
                    self._version = await self._relist()
                opened_at = asyncio.get_running_loop().time()
                async for kind, obj in self._watch(self._version):
                    failures = 0
                    self._version = obj["metadata"]["resourceVersion"]
                    self._hand_on(kind, obj)
                self.last_event_at = asyncio.get_running_loop().time()  # the server ended it as asked: it is alive
                if self.last_event_at - opened_at < _SHORTEST_WATCH_SECONDS:
                    raise Transient("the watch was closed as soon as it was opened")
            except ApiError as error:
                failures += 1
                self.last_event_at = asyncio.get_running_loop().time()  # it is alive; starting again would not help
                if isinstance(error, Gone | NotFound):
                    self._version = None
                if isinstance(error, NotFound) and self._on_absence is not None:
                    self._on_absence()
                log.warning(
                    "watch interrupted", extra={"resource": self._resource.plural, "error": str(error), "try": failures}
                )
                await asyncio.sleep(NO_WATCH.jittered_after(failures))

    async def look_once(self) -> None:
        """List what exists, and pass on what changed since, while it does not run; it would go on from there."""
        self._version = await self._relist()

    async def _watch(self, version: str) -> AsyncIterator[tuple[str, Json]]:
        # A kind without changes gets no bookmarks either, so the server is asked to end the watch before its
        # silence would look like a dead connection.
        ends_after = max(int(self._silence_seconds * random.uniform(0.7, 0.8)), 1)  # noqa: S311  # jitter
        turns = Turns(self._turn_seconds)
        async for event in self._api.watch(
            self._resource,
            self._namespace,
            resource_version=version,
            timeout_seconds=ends_after,
            silence_seconds=self._silence_seconds,
            is_known=self._is_known,
            **self._selectors,
        ):
            yield event
            await turns.give_way()

    def _hand_on(self, kind: str, obj: Json) -> None:
        self.last_event_at = asyncio.get_running_loop().time()
        if kind == "BOOKMARK":
            return
        metadata = obj["metadata"]
        namespace, name, uid = metadata.get("namespace", ""), metadata["name"], metadata["uid"]
        names = self._known.setdefault(namespace, {})
        known = names.get(name)
        if kind == "DELETED":
            if known == uid:
                del names[name]
        elif known != uid:
            if known is not None:
                self._tell("DELETED", _gone(namespace, name, known))  # first, as this one has taken its name
            names[name] = uid
        self._tell(kind, obj)

    def _tell(self, kind: str, obj: Json) -> None:
        try:
            self._on_change(kind, obj)
        except Exception as error:  # the boundary between objects; the error is shown, not hidden
            name = "/".join(filter(None, (obj["metadata"].get("namespace"), obj["metadata"].get("name"))))
            what = {"resource": self._resource.plural, "object": name, "change": kind}
            log.error("object not observed", extra=what, exc_info=error)
            self._on_failure()

    async def _relist(self) -> str:
        """Pass on what exists, page by page, and then what no longer does: all of it at once may be too much."""
        listed: dict[str, set[str]] = {}
        version = ""
        turns = Turns(self._turn_seconds)
        async for page in self._api.list_pages(self._resource, self._namespace, **self._selectors):
            version = page.version
            page.items.reverse()
            while page.items:
                item = page.items.pop()
                metadata = item["metadata"]
                namespace, name = metadata.get("namespace", ""), metadata["name"]
                listed.setdefault(namespace, set()).add(name)
                is_known = self._uid_of(namespace, name) == metadata["uid"]
                self._hand_on("MODIFIED" if is_known else "ADDED", item)
                await turns.give_way()
        for namespace, names in self._known.items():
            there = listed.get(namespace, set())
            for name in [name for name in names if name not in there]:
                self._hand_on("DELETED", _gone(namespace, name, names[name]))
                await turns.give_way()
        self.relists += 1
        if self._on_relist is not None:
            await self._on_relist(version, self._uid_of)
        self.last_event_at = asyncio.get_running_loop().time()
        self.synced.set()
        return version

    def _uid_of(self, namespace: str, name: str) -> str | None:
        return self._known.get(namespace, {}).get(name)


async def until_synced(running: asyncio.Task[None], synced: asyncio.Event) -> None:
    """Wait until an informer has passed on its first list.

    Args:
        running: The task that runs it.
        synced: Its event.

    Raises:
        Exception: What ended the task, if it ends before that.
    """
    waiting = asyncio.create_task(synced.wait())
    try:
        await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
    finally:
        waiting.cancel()


def _gone(namespace: str, name: str, uid: str) -> Json:
    """Return what is known of an object whose deletion was missed."""
    return {"metadata": {"name": name, "namespace": namespace, "uid": uid}}
