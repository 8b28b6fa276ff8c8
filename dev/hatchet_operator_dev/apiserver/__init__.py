"""An embedded, in-memory Kubernetes API server: for ``hatchet-operator dev``, for tests, and as the fast backend of
benchmarks.
"""

from hatchet_operator_dev.apiserver.access import LoopbackCertificate, make_loopback_certificate, write_kubeconfig
from hatchet_operator_dev.apiserver.server import ApiServer

__all__ = ["ApiServer", "LoopbackCertificate", "make_loopback_certificate", "write_kubeconfig"]
