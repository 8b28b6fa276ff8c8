"""How to reach the API server: from a kubeconfig, or from the Pod that this process runs in.

The official library reads it, including exec plugins; it is imported late, as that takes a quarter of a second.
"""

import os
import ssl
from pathlib import Path

import yaml

from hatchet_operator.cluster.endpoint import Endpoint
from hatchet_operator.cluster.ownership import read_account
from hatchet_operator.errors import ConfigurationError

_IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def find_endpoint(kubeconfig: Path | None, context: str | None = None) -> Endpoint:
    """Return the endpoint of the given kubeconfig; None: of this Pod's service account, otherwise of $KUBECONFIG.

    Args:
        kubeconfig: A file.
        context: One of its contexts; None: the current one.

    Raises:
        ConfigurationError: There is none, or it makes no sense.
    """
    if (
        kubeconfig is None
        and context is None
        and "KUBERNETES_SERVICE_HOST" in os.environ
        and (_IN_CLUSTER / "token").exists()
    ):
        return _in_cluster_endpoint()
    return _read_kubeconfig(kubeconfig, context)


def find_server(server: str | None, ca_file: Path | None) -> Endpoint:
    """Return where the API server is, with nothing that proves who we are: whoever is served proves that themselves.

    Args:
        server: Its URL; None: the one of the cluster that this Pod is in.
        ca_file: The authority of its certificate; None: the file where Pods have it.

    Raises:
        ConfigurationError: This is no Pod, or there is no such file.
    """
    if server is None and "KUBERNETES_SERVICE_HOST" not in os.environ:
        raise ConfigurationError("this is not a Pod; say with --api-server and --ca-file where the API server is")
    server = server or _in_cluster_server()
    if not server.startswith("https"):
        return Endpoint(server=server)
    file = ca_file or _IN_CLUSTER / "ca.crt"
    try:
        return Endpoint(server=server, ssl_context=ssl.create_default_context(cafile=file))
    except OSError as error:
        raise ConfigurationError(f"{file}: {error.strerror or error}") from error


def _in_cluster_server() -> str:
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    return f"https://{f'[{host}]' if ':' in host else host}:{port}"


def _in_cluster_endpoint() -> Endpoint:
    return Endpoint(
        server=_in_cluster_server(),
        token_file=_IN_CLUSTER / "token",
        ssl_context=ssl.create_default_context(cafile=_IN_CLUSTER / "ca.crt"),
        namespace=(_IN_CLUSTER / "namespace").read_text().strip(),
        account=read_account((_IN_CLUSTER / "token").read_text().strip()),
    )


def _read_kubeconfig(path: Path | None, wanted: str | None) -> Endpoint:
    try:
        from kubernetes import config
        from kubernetes.client import Configuration
    except ImportError as error:
        raise ConfigurationError(
            "to read a kubeconfig, install the extra of that name: hatchet-operator[kubeconfig] (docs/install.md)"
        ) from error
    file = str(path) if path else None
    shown = file or os.environ.get("KUBECONFIG", "~/.kube/config")
    read = Configuration()
    try:
        config.load_kube_config(file, context=wanted, client_configuration=read)  # type: ignore[no-untyped-call]  # the library's
        contexts, current = config.list_kube_config_contexts(file)  # type: ignore[no-untyped-call]  # the library's
    except (config.ConfigException, OSError, yaml.YAMLError) as error:
        if not any(Path(each).expanduser().exists() for each in shown.split(os.pathsep)):
            raise ConfigurationError(
                f"there is no kubeconfig {shown}; name one with --kubeconfig or in $KUBECONFIG "
                '("hatchet-operator dev" prints the line to paste for its own)'
            ) from error
        raise ConfigurationError(f"kubeconfig {shown}: {error}; choose another one with --kubeconfig") from error
    if wanted is not None:
        current = next(each for each in contexts if each["name"] == wanted)  # or it would not have been loaded
    context = None
    if read.host.startswith("https"):
        context = ssl.create_default_context(cafile=read.ssl_ca_cert)
        if not read.verify_ssl:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if read.cert_file:
            context.load_cert_chain(read.cert_file, read.key_file)
    bearer: str = read.get_api_key_with_prefix("BearerToken") or ""
    return Endpoint(
        server=read.host,
        token=bearer.removeprefix("Bearer ") or None,
        ssl_context=context,
        namespace=current["context"].get("namespace") or "default",
    )
