"""Objects of the Kubernetes API, as JSON."""

from typing import Any

Object = dict[str, Any]
