"""How Helm, Flux and Argo CD judge an object of a kind that they do not know: the generic rules of kstatus.

Written from what sigs.k8s.io/cli-utils/pkg/kstatus says of generation, deletion, Reconciling, Stalled and Ready.
"""

from typing import Any


def kstatus(obj: dict[str, Any]) -> str:
    """Return "Current", "InProgress", "Failed" or "Terminating"."""
    metadata, status = obj["metadata"], obj.get("status", {})
    if "deletionTimestamp" in metadata:
        return "Terminating"
    if status.get("observedGeneration", metadata.get("generation")) != metadata.get("generation"):
        return "InProgress"
    conditions = {condition["type"]: condition["status"] for condition in status.get("conditions", ())}
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    return "InProgress" if conditions.get("Ready", "True") != "True" else "Current"
