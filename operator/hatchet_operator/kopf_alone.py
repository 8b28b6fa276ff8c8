"""kopf, imported as if the kubernetes library was not there.

kopf imports all of that library where it is installed, to recognize its models in what handlers return; ours return
nothing. That took an eighth of the time in which the operator starts. Who reads a kubeconfig still gets the library.
"""

import sys

_LIBRARY = "kubernetes"

_is_free = _LIBRARY not in sys.modules
if _is_free:
    sys.modules[_LIBRARY] = None  # type: ignore[assignment]  # which makes its import fail
try:
    import kopf
finally:
    if _is_free:
        del sys.modules[_LIBRARY]

__all__ = ["kopf"]
