"""What becomes of requests that can't even be sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.transport import Transport
from hatchet_operator.errors import Transient


async def test_a_token_that_can_not_be_read_is_waited_for(tmp_path: Path) -> None:
    """As when the kubelet replaces its volume: a request is repeated, and no loop ends for it."""
    endpoint = Endpoint(server="http://127.0.0.1:1", token_file=tmp_path / "token")
    transport = Transport(endpoint, user_agent="test", on_answer=lambda *answer: None)
    await transport.start()
    try:
        with pytest.raises(Transient, match="No such file"):
            await transport.fetch("GET", "/api/v1/pods")
    finally:
        await transport.close()
