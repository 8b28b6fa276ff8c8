"""A "node" without containers: pods that are bound to it run as child processes of this machine.

What a kubelet writes to a Pod, this writes too, so that the operator cannot tell the difference. What it leaves out:
images, volumes, probes, resource limits, init containers, and all containers but the first.

    node.py         which pods are ours; one `PodRunner` each
    runner.py       the life of one pod: start, watch over, restart, end
    environment.py  what the command sees
    status.py       what the Pod's status says
    process.py      one command under its shim
    shim.py         the process between node and command, so that nothing outlives the node
"""

from hatchet_operator_dev.localnode.node import LocalNode, OutputHandler
from hatchet_operator_dev.localnode.runner import LOG_PATH_ANNOTATION

__all__ = ["LOG_PATH_ANNOTATION", "LocalNode", "OutputHandler"]
