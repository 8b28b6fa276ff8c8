"""What a worker may do on the cluster: nothing."""

import json

from tests.e2e.kubectl import Kubectl
from tests.e2e.pools import SLOW_FAN_OUT, pods_of, start_pool

TRY = """
import json, os, pathlib, ssl, urllib.error, urllib.request

HOST, PORT = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]


def ask(**headers):
    request = urllib.request.Request(f"https://{HOST}:{PORT}/api/v1/namespaces/NAMESPACE/pods", headers=headers)
    try:
        return urllib.request.urlopen(request, context=ssl._create_unverified_context(), timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code


token = pathlib.Path(os.environ["HATCHET_CLIENT_TOKEN_FILE"]).read_text()
print(json.dumps({
    "default token": pathlib.Path("/var/run/secrets/kubernetes.io/serviceaccount").exists(),
    "answers": [ask(), ask(Authorization=f"Bearer {token}")],
}))
"""


def test_a_worker_has_no_token_for_the_api_server_and_its_own_is_none(kubectl: Kubectl) -> None:
    start_pool(kubectl, SLOW_FAN_OUT)
    (pod,) = pods_of(kubectl)

    said = kubectl("exec", pod["metadata"]["name"], "--", "python", "-c", TRY.replace("NAMESPACE", kubectl.namespace))

    found = json.loads(said)
    assert found["default token"] is False
    without, with_its_own = found["answers"]
    assert without in (401, 403), "as the cluster has it for anonymous requests"
    assert with_its_own == 401, "a token for another audience"
