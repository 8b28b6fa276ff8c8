"""Kills the operator and workers, and has the API server misbehave, while a load is running."""

import asyncio
import os
import random
import signal
import time
from contextlib import suppress

import psutil

from hatchet_operator.resources.base import Json
from tests.integration.harness import OPERATOR_WRITES, Cluster

_FAULTS_SECONDS = 3.0
_WORKER_LIVES_SECONDS = 35.0
_FAULTS: tuple[Json, ...] = (
    {"match": OPERATOR_WRITES, "action": "commit-then-drop"},
    {"match": OPERATOR_WRITES, "action": "drop"},
    {"match": OPERATOR_WRITES, "action": "status", "code": 500},
    {"match": OPERATOR_WRITES, "action": "status", "code": 429, "retryAfter": 1},
    {"match": OPERATOR_WRITES | {"verb": "update"}, "action": "status", "code": 409},
    {"match": OPERATOR_WRITES, "action": "delay", "seconds": 1.0},
    {"match": {"userAgent": "hatchet-operator", "resource": "workflowruns"}, "action": "cut"},
    {"match": {"userAgent": "hatchet-operator", "resource": "workflowruns"}, "action": "gone"},
    {"match": {"userAgent": "hatchet-operator", "resource": "workflowruns"}, "action": "duplicate"},
    {"match": {"userAgent": "hatchet-operator", "resource": "workflowruns"}, "action": "stale"},
)


class Trouble:
    """Makes trouble until it is told to stop; whom it killed is in `died_at`.

    Args:
        cluster: Where.
        chance: Decides whom it meets.
        operator_lives_seconds: How long an operator lives.
    """

    def __init__(self, cluster: Cluster, chance: random.Random, *, operator_lives_seconds: float) -> None:
        self._cluster = cluster
        self._chance = chance
        self._operator_lives_seconds = operator_lives_seconds
        self.died_at: dict[int, float] = {}
        self.absences: list[tuple[float, float]] = []
        self.faults = 0

    async def run(self, until: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._kill_operators(until))
            group.create_task(self._kill_workers(until))
            group.create_task(self._break_requests(until))

    async def _kill_operators(self, until: asyncio.Event) -> None:
        while not await _is_set_within(until, self._operator_lives_seconds):
            died_at = time.time()
            await self._cluster.crash_operator()
            await self._cluster.start_operator()
            self.absences.append((died_at, time.time()))

    async def _kill_workers(self, until: asyncio.Event) -> None:
        while not await _is_set_within(until, self._chance.uniform(0.5, 1.5) * _WORKER_LIVES_SECONDS):
            if workers := self._workers():
                worker = self._chance.choice(workers)
                self.died_at[worker] = time.time()
                os.kill(worker, signal.SIGKILL)

    async def _break_requests(self, until: asyncio.Event) -> None:
        while not await _is_set_within(until, self._chance.uniform(0, 2 * _FAULTS_SECONDS)):
            fault = self._chance.choice(_FAULTS)
            skip, times = self._chance.randrange(5), self._chance.randint(1, 3)
            await self._cluster.inject(fault | {"skip": skip, "times": times, "optional": True})
            self.faults += 1

    def _workers(self) -> list[int]:
        """Process ids of the pods' workers: below what watches over them, which the node in this process started."""
        found: dict[int, int] = {}
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if any(part.endswith("mixed_load/program.py") for part in process.cmdline()):
                    found[process.pid] = process.ppid()
        return [pid for pid in found if pid not in found.values()]


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
    return event.is_set()
