"""The SDKs that Hatchet publishes, each in an image of its own, in the pods of a pool: over TLS, with the pool's token.

The pools of both start at once, and so does all that each is asked for; the tests look at one thing each.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.eventually import eventually
from tests.e2e.images import PUBLISHED, image_of
from tests.e2e.kubectl import Json, Kubectl, new_namespace
from tests.e2e.pools import POOL, executions, give_program, make_pool, pods_of
from tests.e2e.slow_fan_out import children_of, finished, make_run, output_of, status_of

PROGRAM = Path(__file__).parent / "programs/published.py"
REPLICAS = 2
CHILDREN = 20
THREE = range(3)
RUNS = (
    make_run("parent", {"children": CHILDREN}, "fan-out"),
    make_run("telling", {}, "telling"),
    *(make_run("grouped", {"user": "ada"}, f"grouped-{number}") for number in THREE),
    *(make_run("limited", {}, f"limited-{number}") for number in THREE),
    *(make_run("sticking", {}, f"sticking-{number}") for number in THREE),
)
NO_IMAGE = {"ErrImageNeverPull", "ErrImagePull", "ImagePullBackOff"}


@pytest.fixture(scope="module")
def namespaces(operator: Kubectl) -> Iterator[dict[str, Kubectl]]:
    """A namespace for each version, whose pool is about to start."""
    with ExitStack() as stack:
        made = {version: stack.enter_context(new_namespace("published")) for version in PUBLISHED}
        for version, namespace in made.items():
            image = {"image": image_of(f"published-{version}")}
            pool = make_pool(give_program(namespace, PROGRAM), image, minReplicas=REPLICAS, maxReplicas=REPLICAS)
            namespace.apply_object(pool)
        yield made


@pytest.fixture(scope="module", params=PUBLISHED)
def kubectl(request: pytest.FixtureRequest, namespaces: dict[str, Kubectl]) -> Kubectl:
    """The namespace of one version, in which everything was started."""
    namespace = namespaces[request.param]

    def is_ready() -> bool:
        statuses = [each for pod in pods_of(namespace) for each in pod["status"].get("containerStatuses", ())]
        if any(each["state"].get("waiting", {}).get("reason") in NO_IMAGE for each in statuses):
            pytest.skip(
                f"no image of hatchet-sdk {request.param}: images/build.sh was not asked, or could not download it"
            )
        status = namespace.get("workerpool", POOL).get("status", {})
        return bool(status.get("readyReplicas") == REPLICAS)

    eventually(is_ready)
    namespace.apply_object({"apiVersion": "v1", "kind": "List", "items": RUNS})
    return namespace


def started_by(kubectl: Kubectl, cause: str, workflow: str) -> Json:
    """Wait for the first run of a workflow that started by itself, and for its end."""
    labels = f"hatchet-operator.dev/triggered-by={cause},hatchet-operator.dev/workflow={workflow}"
    found = eventually(lambda: kubectl.list("workflowruns", labels))
    return finished(kubectl, found[0]["metadata"]["name"])


def test_a_retried_parent_gets_the_children_it_has_and_each_ran_once(kubectl: Kubectl) -> None:
    run = finished(kubectl, "fan-out")
    assert output_of(run, "spawn") == {"numbers": list(range(CHILDREN))}
    children = children_of(kubectl, run)
    assert Counter(child["spec"]["parent"]["key"] for child in children) == Counter(
        f"child{n}" for n in range(CHILDREN)
    )
    executed = Counter(each["executed"] for each in executions(kubectl))
    assert executed == Counter(child["metadata"]["uid"] for child in children)
    pods = {pod["metadata"]["name"] for pod in pods_of(kubectl)}
    assert {child["status"]["steps"]["work"]["worker"] for child in children} == pods


def test_the_workers_speak_tls(kubectl: Kubectl) -> None:
    given = {each["name"]: each.get("value") for each in pods_of(kubectl)[0]["spec"]["containers"][0]["env"]}
    assert given["HATCHET_CLIENT_TLS_STRATEGY"] == "tls"
    assert given["HATCHET_CLIENT_TOKEN"] == "$(HATCHET_POOL_TOKEN)~$(HATCHET_POD_UID)"


def test_runs_of_a_group_take_turns(kubectl: Kubectl) -> None:
    times = sorted(tuple(output_of(finished(kubectl, f"grouped-{number}"), "work").values()) for number in THREE)
    assert all(ended <= began for (_, ended), (began, _) in itertools.pairwise(times)), times


def test_a_run_waits_for_units_of_the_limit_that_the_program_set(kubectl: Kubectl) -> None:
    def states() -> Counter[str]:
        seen = [status_of(kubectl, f"limited-{number}") for number in THREE]
        return Counter(status.get("reason" if status.get("phase") == "Pending" else "phase", "") for status in seen)

    eventually(lambda: states() == {"Succeeded": 2, "WaitingForRateLimit": 1})
    assert kubectl.get("ratelimit", "calls")["spec"] == {"limit": 2, "window": "1h"}


def test_children_stick_to_their_parents_worker(kubectl: Kubectl) -> None:
    for number in THREE:
        said = output_of(finished(kubectl, f"sticking-{number}"), "spawn")
        assert said["children"] == [said["own"]] * 3


def test_an_event_that_a_step_pushes_starts_a_run(kubectl: Kubectl) -> None:
    assert output_of(started_by(kubectl, "event", "told"), "work") == {"got": {"user": "ada"}}


def test_a_run_that_a_step_schedules_starts_at_its_time(kubectl: Kubectl) -> None:
    at = output_of(finished(kubectl, "telling"), "work")["at"]
    late = output_of(started_by(kubectl, "schedule", "late"), "work")
    assert late["got"] == {"user": "bob"}
    assert late["began"] >= at


def test_a_cron_ticks(kubectl: Kubectl) -> None:
    run = started_by(kubectl, "cron", "minutely")
    tick = run["metadata"]["annotations"]["hatchet-operator.dev/tick"]
    assert tick[:16] == run["metadata"]["creationTimestamp"][:16], "in the minute that it is for"
