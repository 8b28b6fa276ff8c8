from __future__ import annotations

import pytest

from tests.kube.helm import Helm, HelmMissingError, find_helm

OPERATORS = "operators"


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Helm without a cluster."""
    try:
        return Helm(find_helm(), OPERATORS)
    except HelmMissingError as missing:
        pytest.skip(str(missing))
