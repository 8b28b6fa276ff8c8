"""Widgets: the kind these tests define for themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.kube.client import Json, Kind

WIDGETS_CRD = Path(__file__).with_name("widgets.yaml")
WIDGETS = Kind(api_version="conformance.test/v1", kind="Widget", plural="widgets")


def make_widget(name: str = "", *, metadata: Json | None = None, **spec: Any) -> Json:
    """Return a valid widget; keywords are fields of its spec."""
    return WIDGETS.make(name, metadata=metadata or {}, spec={"title": "a widget"} | spec)
