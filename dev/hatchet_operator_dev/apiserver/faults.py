"""Faults that tests order: which requests, after how many, how often, and what happens to them.

    {"match": {"verb": "update", "resource": "workflowruns", "subresource": "status", "name": "etl-*"},
     "skip": 2, "times": 1, "action": "commit-then-hang"}

Every key of ``match`` is optional and a glob; requests are matched by the first rule that fits. ``skip`` matches
pass, the next ``times`` (default 1, 0 means forever) are hit. Actions:

    status               answer ``code`` (default 500; with ``retryAfter`` seconds, ``message``, reasons as ``causes``)
                         instead of doing it
    delay                wait ``seconds``, then do it
    drop                 close the connection before doing it
    commit-then-drop     do it, then close the connection without an answer
    commit-then-hang     do it, then leave the client waiting
    cut                  end a watch
    silent               a watch stays open and sends nothing any more, bookmarks included
    gone                 a watch gets an ERROR event 410 Expired
    duplicate, stale     a watch sends each event twice / followed by the object's previous version

The five actions on watches hit those already open at once, and new ones while the rule is not used up. A rule that
never fires is told as ``missed``, unless it is ``optional``: a test that orders a fault and passes without it shows
nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from hatchet_operator_dev.apiserver.objects import Object
from hatchet_operator_dev.apiserver.status import ApiError, bad_request, expired
from hatchet_operator_dev.apiserver.watching import Watch

REQUEST_ACTIONS = ("status", "delay", "drop", "commit-then-drop", "commit-then-hang")
WATCH_ACTIONS = ("cut", "silent", "gone", "duplicate", "stale")
_MATCH_KEYS = ("verb", "resource", "subresource", "namespace", "name", "userAgent")
_REASONS = {403: "Forbidden", 409: "Conflict", 410: "Expired", 429: "TooManyRequests", 500: "InternalError"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFacts:
    """What faults and statistics know about a request; ``verb`` is Kubernetes' (get, list, watch, create, …)."""

    verb: str
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    user_agent: str = ""

    def value(self, key: str) -> str:
        return self.user_agent if key == "userAgent" else str(getattr(self, key))


@dataclass(slots=True, kw_only=True)
class Fault:
    """One rule with its counters."""

    match: dict[str, list[str]]
    action: str
    skip: int = 0
    times: int = 1
    code: int = 500
    retry_after: int | None = None
    message: str = ""
    causes: tuple[str, ...] = ()
    seconds: float = 0.0
    label: str = ""
    optional: bool = False
    matched: int = 0
    fired: int = 0

    def fits(self, facts: RequestFacts) -> bool:
        return all(
            any(fnmatchcase(facts.value(key), pattern) for pattern in patterns) for key, patterns in self.match.items()
        )

    @property
    def used_up(self) -> bool:
        return self.times > 0 and self.fired >= self.times

    def error(self) -> ApiError:
        reason = _REASONS.get(self.code, "ServiceUnavailable" if self.code == 503 else "Unknown")
        message = self.message or f"injected fault: {self.code}"
        details = {"causes": [{"reason": cause} for cause in self.causes]} if self.causes else None
        return ApiError(self.code, reason, message, details=details, retry_after=self.retry_after)

    def report(self) -> Object:
        return {
            "label": self.label,
            "action": self.action,
            "match": self.match,
            "matched": self.matched,
            "fired": self.fired,
        }


@dataclass(slots=True)
class FaultInjector:
    """The rules in force; without any, requests pass through untouched."""

    rules: list[Fault] = field(default_factory=list)
    _dropped: list[Fault] = field(default_factory=list)
    _open: dict[Watch, RequestFacts] = field(default_factory=dict)
    _fired: asyncio.Condition = field(default_factory=asyncio.Condition)
    _background: set[asyncio.Task[None]] = field(default_factory=set)

    def install(self, described: Any) -> None:
        """Add rules (see the module's head); rules on watches hit the open ones at once."""
        for fault in _parse(described):
            self.rules.append(fault)
            if fault.action in WATCH_ACTIONS:
                for watch, facts in list(self._open.items()):
                    if fault.fits(facts) and self._uses(fault):
                        _hit(watch, fault)

    def clear(self) -> None:
        """Drop all rules; silent watches stay silent, as nothing could bring back what they missed."""
        self._dropped += self.rules
        self.rules.clear()
        for watch in self._open:
            watch.repeat_last = watch.repeat_stale = False

    def report(self) -> list[Object]:
        return [fault.report() for fault in self.rules]

    def missed(self) -> list[Object]:
        """Report the rules that nothing met, those that were dropped too: whatever was tested, it was not these."""
        return [fault.report() for fault in (*self._dropped, *self.rules) if not fault.fired and not fault.optional]

    def on_request(self, facts: RequestFacts) -> Fault | None:
        """Find the fault that hits this request, and count it."""
        for fault in self.rules:
            if fault.action in REQUEST_ACTIONS and not fault.used_up and fault.fits(facts):
                return fault if self._uses(fault) else None
        return None

    def on_watch(self, watch: Watch, facts: RequestFacts) -> None:
        """Register an open watch, and hit it if a rule says so."""
        self._open[watch] = facts
        for fault in self.rules:
            if fault.action in WATCH_ACTIONS and not fault.used_up and fault.fits(facts) and self._uses(fault):
                _hit(watch, fault)

    def forget_watch(self, watch: Watch) -> None:
        self._open.pop(watch, None)

    def _uses(self, fault: Fault) -> bool:
        fault.matched += 1
        if fault.matched <= fault.skip or fault.used_up:
            return False
        fault.fired += 1
        task = asyncio.get_running_loop().create_task(self._announce())
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return True

    async def _announce(self) -> None:
        async with self._fired:
            self._fired.notify_all()

    async def wait_until_fired(self, seconds: float) -> bool:
        """Wait until any rule has fired; tells whether one has."""
        try:
            async with asyncio.timeout(seconds), self._fired:
                await self._fired.wait_for(lambda: any(fault.fired for fault in self.rules))
        except TimeoutError:
            return False
        return True


def _hit(watch: Watch, fault: Fault) -> None:
    match fault.action:
        case "cut":
            watch.close()
        case "silent":
            watch.silent = True
        case "gone":
            watch.fail(expired("too old resource version: injected fault"))
        case "duplicate":
            watch.repeat_last = True
        case "stale":
            watch.repeat_stale = True


def _parse(described: Any) -> Iterable[Fault]:
    if isinstance(described, dict):
        described = [described]
    if not isinstance(described, list):
        raise bad_request("faults: expected a list of rules")
    for rule in described:
        action = rule.get("action")
        if action not in REQUEST_ACTIONS + WATCH_ACTIONS:
            known = ", ".join(REQUEST_ACTIONS + WATCH_ACTIONS)
            raise bad_request(f"faults: action {action!r} is not one of {known}")
        match = rule.get("match") or {}
        if unknown := set(match) - set(_MATCH_KEYS):
            raise bad_request(f"faults: cannot match on {', '.join(sorted(unknown))}; known: {', '.join(_MATCH_KEYS)}")
        yield Fault(
            match={key: value if isinstance(value, list) else [value] for key, value in match.items()},
            action=action,
            skip=int(rule.get("skip", 0)),
            times=int(rule.get("times", 1)),
            code=int(rule.get("code", 500)),
            retry_after=rule.get("retryAfter"),
            message=str(rule.get("message", "")),
            causes=tuple(rule.get("causes", ())),
            seconds=float(rule.get("seconds", 0)),
            label=str(rule.get("label", "")),
            optional=bool(rule.get("optional", False)),
        )
