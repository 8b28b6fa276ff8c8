from __future__ import annotations

import aiohttp
import pytest

from hatchet_operator.engine.metrics import Metrics
from hatchet_operator.probes import Health, Probes


@pytest.mark.parametrize(
    ("health", "want_ready", "want_alive"),
    [
        pytest.param(Health(state="ok", ready=True), (200, "ok"), (200, "ok"), id="a leader"),
        pytest.param(Health(state="standby", ready=True), (200, "standby"), (200, "ok"), id="a standby is ready"),
        pytest.param(
            Health(state="reading what is there", ready=False),
            (503, "reading what is there"),
            (200, "ok"),
            id="a leader that reads is alive, and not ready",
        ),
        pytest.param(
            Health(state="ok", ready=True, stuck=("watch of runs silent for 130s", "another")),
            (200, "ok"),
            (503, "watch of runs silent for 130s\nanother"),
            id="a watch that hears nothing",
        ),
    ],
)
async def test_what_kubelet_is_told(health: Health, want_ready: tuple[int, str], want_alive: tuple[int, str]) -> None:
    probes = Probes(Metrics().scrape, lambda: health)
    port = await probes.start("127.0.0.1", 0)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
            for path, want in (("/readyz", want_ready), ("/livez", want_alive)):
                async with http.get(path) as response:
                    assert (response.status, await response.text()) == want
    finally:
        await probes.stop()
