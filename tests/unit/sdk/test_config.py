import base64
import json
import subprocess
import sys

import pytest

from hatchet_sdk import ClientConfig, Hatchet, NotConfigured
from hatchet_sdk._client.config import endpoint_of


def make_token(**claims: object) -> str:
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.sig"


TOKEN = make_token(grpc_broadcast_address="from-token:7070")


@pytest.mark.parametrize(
    ("config", "environ", "want"),
    [
        pytest.param({"host_port": "given:1"}, {"HATCHET_CLIENT_HOST_PORT": "env:2"}, "given:1", id="argument first"),
        pytest.param({}, {"HATCHET_CLIENT_HOST_PORT": "env:2", "HATCHET_CLIENT_TOKEN": TOKEN}, "env:2", id="then env"),
        pytest.param({}, {"HATCHET_CLIENT_TOKEN": TOKEN}, "from-token:7070", id="then the token's claim"),
    ],
)
def test_where_the_address_comes_from(config: dict[str, str], environ: dict[str, str], want: str) -> None:
    assert endpoint_of(ClientConfig(**config), environ).address == want  # type: ignore[arg-type]


@pytest.mark.parametrize("token", ["", "opaque", "a.b.c", make_token(other=1), "a.W10.c"])
def test_without_an_address_the_error_says_how_to_get_one(token: str) -> None:
    with pytest.raises(NotConfigured) as refused:
        endpoint_of(ClientConfig(), {"HATCHET_CLIENT_TOKEN": token})
    for word in ("HATCHET_CLIENT_TOKEN", "HATCHET_CLIENT_HOST_PORT", "hatchet-operator dev worker.py", "ClientConfig("):
        assert word in str(refused.value)


def test_a_token_is_taken_without_the_line_break_of_its_file() -> None:
    assert endpoint_of(ClientConfig(host_port="h:1"), {"HATCHET_CLIENT_TOKEN": "abc\n"}).token == "abc"


@pytest.mark.parametrize("token", ["töken", "a\nb", "a\0b"])
def test_a_token_that_no_header_can_have_is_refused(token: str) -> None:
    with pytest.raises(NotConfigured, match=r"the token \(HATCHET_CLIENT_TOKEN, .* has characters that no token has"):
        endpoint_of(ClientConfig(host_port="h:1", token=token), {})


@pytest.mark.parametrize(
    ("namespace", "want"),
    [("", "Child"), ("Team", "team_Child"), ("team_", "team_Child")],
    ids=["none", "one", "with _"],
)
def test_the_namespace_is_put_before_names_once(namespace: str, want: str) -> None:
    endpoint = endpoint_of(ClientConfig(host_port="h:1", namespace=namespace), {})
    assert endpoint.prefixed("Child") == want
    assert endpoint.prefixed(want) == want


def test_unusable_tls_settings_are_refused(tmp_path: object) -> None:
    with pytest.raises(NotConfigured, match='"ssl" is not known'):
        endpoint_of(ClientConfig(host_port="h:1"), {"HATCHET_CLIENT_TLS_STRATEGY": "ssl"})
    with pytest.raises(NotConfigured, match="HATCHET_CLIENT_TLS_ROOT_CA_FILE names a file that cannot be read"):
        Hatchet(config=ClientConfig(host_port="h:1", tls_root_ca_file=f"{tmp_path}/no.pem")).admin.run_workflow("W", {})
    with pytest.raises(NotConfigured, match="mtls needs HATCHET_CLIENT_TLS_KEY_FILE"):
        Hatchet(config=ClientConfig(host_port="h:1", tls_strategy="mtls")).admin.run_workflow("W", {})


def test_importing_and_declaring_need_neither_grpc_nor_configuration() -> None:
    program = (
        "import sys, hatchet_sdk\n"
        "hatchet = hatchet_sdk.Hatchet()\n"
        "@hatchet.workflow()\n"
        "class W:\n"
        "    @hatchet.step()\n"
        "    def s(self, context): ...\n"
        "hatchet.worker('w').register_workflow(W())\n"
        "slow = {'grpc', 'google', 'pydantic'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, env={})


def test_the_public_names_are_those_in_all() -> None:
    import hatchet_sdk

    modules = {"errors", "contracts", "payloads", "testing"}
    public = {name for name in vars(hatchet_sdk) if not name.startswith("_")} - modules
    assert public == set(hatchet_sdk.__all__)
