from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hatchet_operator.cluster.endpoint import Endpoint
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


def test_shards_deal_several_namespaces_or_all() -> None:
    sharded = {"shards": 2, "grpc_service": "hatchet", "pod_ip": "10.1.2.3"}
    assert make_settings({**sharded, "namespaces": ["a", "b", "a"]}, IN_CLUSTER).namespaces == ("a", "b")
    assert make_settings(sharded, IN_CLUSTER).namespaces == ()
    with pytest.raises(ConfigurationError, match="--namespace names the only one"):
        make_settings({**sharded, "namespaces": ["a"]}, IN_CLUSTER)


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_service_can_not_lead_to_all_addresses(host: str) -> None:
    options = {"grpc_service": "hatchet", "grpc_host": host}
    with pytest.raises(ConfigurationError, match="--advertise-ip"):
        make_settings(options, IN_CLUSTER)
    assert make_settings({**options, "pod_ip": "10.1.2.3"}, IN_CLUSTER).pod_ip == "10.1.2.3"


@pytest.mark.parametrize(
    ("options", "want"),
    [
        pytest.param({"rest_url": "https://a"}, "--events-port is found, which is not given", id="no port"),
        pytest.param({"rest_url": "a:1", "events_port": 1}, "expected a URL", id="no URL"),
        pytest.param({"rest_url": "https://a/b?c", "events_port": 1}, "expected a URL", id="one with a query"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused_at_once(options: dict[str, Any], want: str) -> None:
    with pytest.raises(ConfigurationError, match=want):
        make_settings(options, IN_CLUSTER)
    settings = make_settings({"rest_url": "https://a/b/", "events_port": 1}, IN_CLUSTER)
    assert settings.rest_url == "https://a/b"


@pytest.mark.parametrize(
    ("options", "want"),
    [
        pytest.param({"payload_store": "bucket"}, "expected one of s3://", id="no URL"),
        pytest.param({"payload_store": "s3://a:b@bucket"}, "credentials go into variables", id="one with a secret"),
        pytest.param({"payload_store": "s3://b", "payload_key": "secret"}, "not 32 bytes in base64", id="no key"),
        pytest.param({"payload_key": f"{'A' * 43}="}, "--payload-store, which is not given", id="a key for nothing"),
    ],
)
def test_a_store_of_payloads_that_can_be_none_is_refused_at_once(options: dict[str, Any], want: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(want)) as refused:
        make_settings(options, IN_CLUSTER)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "want"),
    [
        pytest.param({"namespaces": ["etl"]}, "--namespace names the only one", id="one namespace"),
        pytest.param({"leader_election": False}, "--shards needs --leader-elect", id="nobody to share with"),
        pytest.param({"grpc_advertise": "hatchet:443"}, "put {shard} into it", id="one address for all"),
        pytest.param(
            {"rest_url": "https://hatchet", "events_port": 1},
            "--rest-url https://hatchet would be",
            id="one URL for all",
        ),
    ],
)
def test_shards_that_could_not_be_dealt_or_found_are_refused(options: dict[str, Any], want: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(want)):
        make_settings({"shards": 3, **options}, IN_CLUSTER)
    make_settings({"shards": 1, **options}, IN_CLUSTER)


def test_a_shards_clients_of_the_rest_api_are_told_its_service() -> None:
    options = {"shards": 3, "grpc_service": "hatchet", "pod_ip": "10.0.0.1", "events_port": 7180}
    assert make_settings(options, IN_CLUSTER).of_shard(2).rest_url == "http://hatchet-shard-2.ops.svc:7180"
    outside = make_settings({**options, "rest_url": "https://{shard}.example.com/"}, IN_CLUSTER).of_shard(2)
    assert outside.rest_url == "https://2.example.com"


@pytest.mark.parametrize(
    ("options", "want"),
    [
        pytest.param(
            {"grpc_service": "hatchet", "pod_ip": "10.0.0.1", "events_port": 7180},
            ("hatchet-shard-2", "hatchet-shard-2.ops.svc:7070", 7073, 7183, ("2.example.com",)),
            id="by its Service",
        ),
        pytest.param(
            {"grpc_advertise": "shard-{shard}.example.com:443"},
            (None, "shard-2.example.com:443", 7073, None, ("2.example.com",)),
            id="by a name outside",
        ),
        pytest.param({"grpc_port": 0}, (None, None, 0, None, ("2.example.com",)), id="where it happens to listen"),
    ],
)
def test_a_shard_has_an_address_of_its_own(options: dict[str, Any], want: tuple[Any, ...]) -> None:
    settings = make_settings({"shards": 3, "tls_names": ["{shard}.example.com"], **options}, IN_CLUSTER).of_shard(2)
    assert (
        settings.grpc_service,
        settings.grpc_advertise,
        settings.grpc_port,
        settings.events_port,
        settings.tls_names,
    ) == want
