"""Starts a fan-out of `slow_fan_out.py` from outside of any step, and prints its result."""

import json

from hatchet_sdk import Hatchet

run = Hatchet().admin.run_workflow("Parent", {"children": 20})
print(json.dumps({"run": run.workflow_run_id, "result": run.sync_result()}), flush=True)
