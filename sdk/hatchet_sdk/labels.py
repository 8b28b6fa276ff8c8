"""The module from which Hatchet's programs import the type for a step's desired worker labels."""

from hatchet_sdk._runner.worker_labels import DesiredWorkerLabel

__all__ = ["DesiredWorkerLabel"]
