from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hatchet_operator.cluster.api import Endpoint
from hatchet_operator.errors import ConfigurationError
from hatchet_operator.serve import make_settings

IN_CLUSTER = Endpoint(server="https://10.0.0.1", token_file=Path("token"), namespace="ops")
BY_KUBECONFIG = Endpoint(server="https://example", token="t", namespace="mine")


@pytest.mark.parametrize(
    ("endpoint", "options", "want"),
    [
        pytest.param(IN_CLUSTER, {}, ("ops", True), id="in a cluster others may stand by"),
        pytest.param(BY_KUBECONFIG, {}, ("mine", False), id="with a kubeconfig it is the only one"),
        pytest.param(IN_CLUSTER, {"leader_election": False}, ("ops", False), id="told not to"),
        pytest.param(BY_KUBECONFIG, {"leader_election": True}, ("mine", True), id="told to"),
        pytest.param(IN_CLUSTER, {"operator_namespace": "there"}, ("there", True), id="told where"),
        pytest.param(IN_CLUSTER, {"operator_namespace": None, "pod_ip": None}, ("ops", True), id="None says nothing"),
    ],
)
def test_what_was_not_said_follows_from_where_it_runs(
    endpoint: Endpoint, options: dict[str, Any], want: tuple[str, bool]
) -> None:
    settings = make_settings(options, endpoint)
    assert (settings.operator_namespace, settings.leader_election) == want


def test_its_own_objects_go_with_its_account_in_the_same_namespace() -> None:
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "name": "hatchet", "uid": "some-uid"}
    endpoint = replace(IN_CLUSTER, account=account)
    assert make_settings({}, endpoint).owner == account
    assert make_settings({"operator_namespace": "there"}, endpoint).owner is None
    assert make_settings({}, BY_KUBECONFIG).owner is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_service_can_not_lead_to_all_addresses(host: str) -> None:
    options = {"grpc_service": "hatchet", "grpc_host": host}
    with pytest.raises(ConfigurationError, match="--advertise-ip"):
        make_settings(options, IN_CLUSTER)
    assert make_settings({**options, "pod_ip": "10.1.2.3"}, IN_CLUSTER).pod_ip == "10.1.2.3"
