"""Tests of workflows: a step alone with a `FakeContext`, whole runs with `LocalServer`.

    context = FakeContext({"n": 3})
    context.answer("Child", {"process": {"status": "done"}})
    assert asyncio.run(Parent().spawn(context)) == {"results": …}
    assert [child.input for child in context.spawned] == [{"a": "0"}, {"a": "1"}, {"a": "2"}]

For pytest, ``hatchet_sdk.testing.plugin`` has the same as fixtures. Nothing here needs pytest itself.
"""

from hatchet_sdk.testing.fake_context import FakeContext, Spawned
from hatchet_sdk.testing.local_server import LocalServer, OperatorMissing

__all__ = ["FakeContext", "LocalServer", "OperatorMissing", "Spawned"]
