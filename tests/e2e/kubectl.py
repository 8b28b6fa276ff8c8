"""kubectl as people use it, for one namespace. What it prints as JSON comes back as objects."""

import json
import secrets
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from tests.e2e.eventually import eventually

Json = dict[str, Any]

MANIFESTS = Path(__file__).parent / "manifests"
_SECONDS = 150.0  # longer than what kubectl is told to wait for
_RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


class KubectlError(Exception):
    """kubectl said no; the message is its own."""


@dataclass(frozen=True)
class Kubectl:
    """Runs kubectl in a namespace of the cluster that ``KUBECONFIG`` names."""

    namespace: str

    def __call__(
        self, *args: str, stdin: str | None = None, within_seconds: float = _SECONDS, may_fail: bool = False
    ) -> str:
        """Run kubectl and return what it printed.

        Raises:
            KubectlError: It ended with another code than 0, unless it may.
        """
        command = ["kubectl", f"--namespace={self.namespace}", *args]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=within_seconds)
        if done.returncode and not may_fail:
            raise KubectlError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def popen(self, *args: str) -> "subprocess.Popen[str]":
        """Start a kubectl that goes on until it is killed, with what it prints in a pipe."""
        command = ["kubectl", f"--namespace={self.namespace}", *args]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def get(self, kind: str, name: str) -> Json:
        """Read one object."""
        found: Json = json.loads(self("get", kind, name, "--output=json"))
        return found

    def list(self, kind: str, selector: str = "") -> list[Json]:
        """Read all objects of a kind."""
        items: list[Json] = json.loads(self("get", kind, f"--selector={selector}", "--output=json"))["items"]
        return items

    def create(self, file: Path) -> str:
        """Create the object of a file and return its name, which the API server may have made."""
        created: Json = json.loads(self("create", f"--filename={file}", "--output=json"))
        name: str = created["metadata"]["name"]
        return name

    def apply(self, manifest: str, **values: str | int) -> None:
        """Apply a file of ``manifests/``, with its ``$names`` replaced."""
        self("apply", "--filename=-", stdin=Template((MANIFESTS / manifest).read_text()).substitute(values))

    def apply_object(self, obj: Json) -> None:
        """Apply an object made here."""
        self("apply", "--filename=-", stdin=json.dumps(obj))

    def wait(self, what: str, *objects: str, within_seconds: int = 120) -> None:
        """Wait as ``kubectl wait --for`` does."""
        self("wait", f"--for={what}", *objects, f"--timeout={within_seconds}s", within_seconds=within_seconds + 10)

    @contextmanager
    def watched(self, kind: str, name: str, field: str) -> Iterator[Callable[[], Sequence[str]]]:
        """Note each state of an object's field (a JSONPath) in the block; the function gives what was noted so far."""
        form = f'--output=jsonpath={field}{{"\\n"}}'
        command = ["kubectl", f"--namespace={self.namespace}", "get", kind, name, "--watch", form]
        with tempfile.NamedTemporaryFile("w+") as noted, subprocess.Popen(command, stdout=noted) as watching:
            try:
                eventually(lambda: _lines_of(noted.name))
                yield lambda: _lines_of(noted.name)
            finally:
                watching.terminate()

    def story(self) -> Iterator[tuple[str, str]]:
        """What a person would look at when something went wrong: (title, text)."""
        unfinished = "--field-selector=status.phase!=Succeeded"  # of those that succeeded there may be thousands
        yield "objects", self._attempt("get", "wp,wf,deployments,services,pods", "--output=wide")
        yield "runs that have not succeeded", self._attempt("get", "wfr", unfinished, "--output=wide")
        yield "pools", self._attempt("get", "wp", "--output=yaml")
        yield "runs", self._attempt("get", "wfr", unfinished, "--output=yaml")
        yield "events", self._attempt("get", "events", "--sort-by=.metadata.creationTimestamp")
        for pod in self._attempt("get", "pods", "--output=name").split():
            yield f"log of {pod}", self._attempt("logs", pod, "--all-containers", "--tail=200")
            previous = self._attempt("logs", pod, "--all-containers", "--tail=50", "--previous")
            if not previous.startswith("("):
                yield f"log of {pod} before its restart", previous

    def _attempt(self, *args: str) -> str:
        """Diagnosing goes on whatever happens: the cluster may be what is broken."""
        try:
            return self(*args)
        except (KubectlError, subprocess.TimeoutExpired) as error:
            return f"({error})"


def _lines_of(file: str) -> Sequence[str]:
    return Path(file).read_text().splitlines()


@contextmanager
def new_namespace(prefix: str) -> Iterator[Kubectl]:
    """A namespace in which only pods of the restricted standard may run, until the end of the block."""
    kubectl = Kubectl(f"{prefix}-{secrets.token_hex(3)}")
    kubectl("create", "namespace", kubectl.namespace)
    try:
        kubectl("label", "namespace", kubectl.namespace, _RESTRICTED)
        kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=120s")
        yield kubectl
    finally:
        kubectl("delete", "namespace", kubectl.namespace, "--wait=false", "--ignore-not-found")
