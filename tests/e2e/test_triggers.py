"""Runs that start by themselves, in worker pods: by the clock, by an event, by a webhook over the chart's Service."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.eventually import eventually
from tests.e2e.kubectl import Json, Kubectl
from tests.e2e.operators import EVENTS_PORT
from tests.e2e.pools import pods_of, start_pool
from tests.e2e.slow_fan_out import finished, output_of

PROGRAM = Path(__file__).parent / "programs/triggered.py"
SECRET = "of-github"
POST = """
import json, os, ssl, sys, urllib.error, urllib.request
url, body, headers = json.load(sys.stdin)
if headers.pop("with-token", None):
    headers["Authorization"] = "Bearer " + open(os.environ["HATCHET_CLIENT_TOKEN_FILE"]).read().strip()
elif "of-account" in headers:
    headers["Authorization"] = "Bearer " + headers.pop("of-account")
trust = ssl.create_default_context(cafile=os.environ["HATCHET_CLIENT_TLS_ROOT_CA_FILE"])
request = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json", **headers})
try:
    print(urllib.request.urlopen(request, context=trust, timeout=20).read().decode())
except urllib.error.HTTPError as error:
    print(error.read().decode())
"""

ASK = """
import base64, json, os, ssl, urllib.request
token = os.environ["HATCHET_CLIENT_TOKEN"]
claims = token.split(".")[1]
claims = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
url = f"{claims['server_url']}/api/v1/tenants/{claims['sub']}/workflows"
trust = ssl.create_default_context(cafile=os.environ["HATCHET_CLIENT_TLS_ROOT_CA_FILE"])
request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
print(urllib.request.urlopen(request, context=trust, timeout=20).read().decode())
"""


@pytest.fixture
def triggered(kubectl: Kubectl) -> Iterator[Kubectl]:
    start_pool(kubectl, PROGRAM, minReplicas=1)
    yield kubectl
    kubectl("delete", "workflow", "minutely", "--ignore-not-found")


def post(kubectl: Kubectl, operator: Kubectl, path: str, body: str, **headers: str) -> Json:
    """Post from a pod of the pool, as its code could; return the answer."""
    url = f"https://hatchet-operator.{operator.namespace}.svc:{EVENTS_PORT}/v1/namespaces/{kubectl.namespace}/{path}"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    (pod, *_) = pods_of(kubectl)
    command = ("exec", "--stdin", pod["metadata"]["name"], "--", "python", "-c", POST)
    answer: Json = json.loads(kubectl(*command, stdin=json.dumps([url, body, named])))
    return answer


def run_by(kubectl: Kubectl, selector: str) -> Json:
    """Wait for the first run that has these labels, and for its end."""
    labels = ",".join(f"hatchet-operator.dev/{label}" for label in selector.split(","))
    found = eventually(lambda: kubectl.list("workflowruns", labels), within_seconds=100)
    return finished(kubectl, found[0]["metadata"]["name"])


def test_a_cron_starts_a_run_each_minute(triggered: Kubectl) -> None:
    run = run_by(triggered, "triggered-by=cron,workflow=minutely")
    assert output_of(run, "tick") == {"input": {"full": True}, "by_event": False}
    tick = run["metadata"]["annotations"]["hatchet-operator.dev/tick"]
    created = run["metadata"]["creationTimestamp"]
    assert tick[:16] == created[:16], "in the minute that it is for"


def test_an_event_is_sent_over_http_with_the_pods_own_token(triggered: Kubectl, operator: Kubectl) -> None:
    headers = {"with_token": "yes", "Idempotency_Key": "signup-ada"}
    answers = [post(triggered, operator, "events/user:create", '{"user": "ada"}', **headers) for _ in range(2)]
    assert [[run["created"] for run in answer["runs"]] for answer in answers] == [[True], [False]]
    run = run_by(triggered, "event=signup-ada")
    assert run["metadata"]["name"] == answers[0]["runs"][0]["name"]
    assert output_of(run, "greet") == {"input": {"user": "ada"}, "by_event": True}


def test_the_rest_api_is_where_a_pods_token_says(triggered: Kubectl) -> None:
    (pod, *_) = pods_of(triggered)
    answer = json.loads(triggered("exec", pod["metadata"]["name"], "--", "python", "-c", ASK))
    assert "Minutely" in {row["name"] for row in answer["rows"]}


def test_an_account_pushes_events_once_it_may_create_runs(triggered: Kubectl, operator: Kubectl) -> None:
    triggered("create", "serviceaccount", "shop")
    token = triggered("create", "token", "shop", "--audience=hatchet-operator").strip()
    headers = {"of_account": token, "Idempotency_Key": "signup-bob"}
    refused = post(triggered, operator, "events/user:create", '{"user": "bob"}', **headers)
    assert f"system:serviceaccount:{triggered.namespace}:shop may not start runs" in refused["error"]
    triggered("create", "role", "push-events", "--verb=create", "--resource=workflowruns.hatchet-operator.dev")
    account = f"--serviceaccount={triggered.namespace}:shop"
    triggered("create", "rolebinding", "push-events", "--role=push-events", account)

    def started() -> list[Json]:
        answer = post(triggered, operator, "events/user:create", '{"user": "bob"}', **headers)
        return list(answer.get("runs", ()))

    (run,) = eventually(started)  # a refusal is kept for 10 s
    assert run["created"]


def test_a_webhook_starts_a_run(triggered: Kubectl, operator: Kubectl) -> None:
    triggered("create", "secret", "generic", "github", f"--from-literal=secret={SECRET}")
    source = {"type": "GitHub", "secretRef": {"name": "github"}}
    body = {"apiVersion": "hatchet-operator.dev/v1alpha1", "kind": "WebhookSource", "spec": source}
    triggered.apply_object({**body, "metadata": {"name": "github"}})
    triggered.wait("condition=Ready", "webhooksource/github")
    payload = '{"ref": "refs/heads/main"}'
    signature = hmac.new(SECRET.encode(), payload.encode(), hashlib.sha256).hexdigest()
    headers = {"X_GitHub_Event": "push", "X_GitHub_Delivery": "d-1", "X_Hub_Signature_256": f"sha256={signature}"}
    answer = post(triggered, operator, "webhooks/github", payload, **headers)
    assert (answer["id"], [run["created"] for run in answer["runs"]]) == ("github_d-1", [True])
    run = run_by(triggered, "event-source=github")
    assert output_of(run, "greet") == {"input": {"ref": "refs/heads/main"}, "by_event": True}
