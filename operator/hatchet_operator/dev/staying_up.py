"""Without ``--run``: workers stay up and are replaced when their code changes; runs come from elsewhere."""

import asyncio
import base64
import shlex
from pathlib import Path

import watchfiles
import yaml
from rich.text import Text

from hatchet_operator.cluster.kinds import PODS, SECRETS
from hatchet_operator.dev.drawing import draw_failure, draw_run
from hatchet_operator.dev.local_cluster import LocalCluster
from hatchet_operator.dev.one_run import make_run
from hatchet_operator.dev.output import WorkerOutput
from hatchet_operator.dev.screen import Screen
from hatchet_operator.dev.tree import find_failure
from hatchet_operator.dev.view import View, WorkerPod
from hatchet_operator.dev.worker_pool import NAMESPACE, POOL_NAME
from hatchet_operator.errors import NotFound
from hatchet_operator.resources.reasons import Phase


async def stay_up(
    cluster: LocalCluster,
    *,
    worker: Path,
    shown: str,
    directory: Path,
    kubeconfig: Path,
    screen: Screen,
    output: WorkerOutput,
) -> None:
    """Run until cancelled."""
    screen.show_status(f"starting {shown}")
    async with asyncio.TaskGroup() as group:
        group.create_task(_reload_on_change(cluster, worker, shown, screen))
        reporter = _Reporter(cluster.view, shown, screen, output)
        await reporter.until_ready()
        screen.show(Text)
        reporter.report_now()
        await _print_usage(cluster, shown=shown, directory=directory, kubeconfig=kubeconfig, screen=screen)
        await reporter.report()


class _Reporter:
    """Says once what has happened to each worker and each run without a parent."""

    def __init__(self, view: View, shown: str, screen: Screen, output: WorkerOutput) -> None:
        self._view = view
        self._shown = shown
        self._screen = screen
        self._output = output
        self._said: set[tuple[str, ...]] = set()
        self._failing: set[str] = set()

    async def until_ready(self) -> None:
        """Return when the first worker has registered; meanwhile, say why it has not."""
        while not (self._has_worker() and self._view.names()):  # two watches, of which either may be ahead
            self._report_workers()
            await self._view.change()

    def _has_worker(self) -> bool:
        return any(pod.is_registered for pod in self._view.pods.values())

    async def report(self) -> None:
        """Go on for ever."""
        while True:
            self.report_now()
            await self._view.change()

    def report_now(self) -> None:
        self._report_workers()
        self._report_runs()

    def _report_workers(self) -> None:
        for pod in self._view.pods.values():
            if pod.is_leaving:
                continue
            if pod.trouble and pod.uid not in self._failing:
                self._failing.add(pod.uid)
                self._output.mute(pod.name)  # it has said what is wrong, and would say so at every new start
                self._screen.print(Text("✘ ", "red").append(_trouble(pod, self._shown), "default"))
            elif pod.is_registered and self._view.names() and self._is_news("ready", pod.uid, str(pod.restarts)):
                self._failing.discard(pod.uid)
                self._output.unmute(pod.name)
                names = ", ".join(sorted(self._view.names().values()))
                self._screen.print(Text("✔ ", "green").append(f"{pod.name} is ready: {names}", "default"))

    def _report_runs(self) -> None:
        for run in self._view.runs.values():
            status = run.status
            is_done = run.spec.parent is None and status.phase.is_final
            if is_done and self._is_news("run", run.metadata.uid, str(status.reruns)):
                self._report_run(run.metadata.uid)

    def _report_run(self, uid: str) -> None:
        tree = self._view.tree(uid)
        assert tree is not None, "the view has its root"
        self._screen.print(draw_run(tree))
        if tree.phase is Phase.FAILED:
            self._screen.print("", draw_failure(find_failure(tree)), "")

    def _is_news(self, *what: str) -> bool:
        is_news = what not in self._said
        self._said.add(what)
        return is_news


def _trouble(pod: WorkerPod, shown: str) -> str:
    if pod.last_exit_code is None:
        return f"{shown} could not be started: {pod.trouble}"
    return f"{shown} ended (exit code {pod.last_exit_code}); it is tried again now and then, and when it changes"


async def _reload_on_change(cluster: LocalCluster, worker: Path, shown: str, screen: Screen) -> None:
    """Delete the pool's pods when a .py file in the worker's folder changes; the operator makes new ones."""
    async for changes in watchfiles.awatch(worker.parent, watch_filter=watchfiles.PythonFilter()):
        changed = sorted({Path(path).relative_to(worker.parent).as_posix() for _, path in changes})
        screen.print(Text("↻ ", "cyan").append(f"{', '.join(changed)} changed, {shown} is started anew", "default"))
        for pod in list(cluster.view.pods.values()):
            try:
                await cluster.api.delete(PODS, NAMESPACE, pod.name, uid=pod.uid)
            except NotFound:
                continue


async def _print_usage(cluster: LocalCluster, *, shown: str, directory: Path, kubeconfig: Path, screen: Screen) -> None:
    workflows = sorted(cluster.view.registered_workflows(), key=lambda workflow: workflow.exact_name)
    example = next((workflow for workflow in workflows if workflow.exact_name.endswith("Parent")), workflows[0])
    run_file = directory / "run.yaml"
    run_file.write_text(yaml.safe_dump(make_run(example.metadata.name, "{}"), sort_keys=False))
    environment = directory / "client.env"
    environment.touch(mode=0o600)
    environment.write_text(await _client_environment(cluster))
    one_liner = (
        f"from hatchet_sdk import Hatchet; "
        f'print(Hatchet().admin.run_workflow("{example.exact_name}", {{}}).sync_result())'
    )
    lines = Text.assemble(
        ("  Start a run with kubectl\n", "bold"),
        f"    export KUBECONFIG={shlex.quote(str(kubeconfig))}\n",
        f"    kubectl create -f {shlex.quote(str(run_file))}\n",
        "    kubectl get wfr --watch\n\n",
        ("  or with Python", "bold"),
        ("  (the file exports HATCHET_CLIENT_TOKEN, …_HOST_PORT and …_TLS_STRATEGY)\n", "dim"),
        f"    source {shlex.quote(str(environment))}\n",
        f"    python -c {shlex.quote(one_liner)}\n\n",
        ("  Saving a .py file beside the worker's reloads it. Ctrl-C ends everything.", "dim"),
    )
    screen.print("", lines, "")


async def _client_environment(cluster: LocalCluster) -> str:
    """Return shell lines that make a Python program a client of this operator."""
    secret = await cluster.api.get(SECRETS, NAMESPACE, f"{POOL_NAME}-token")
    variables = {
        "HATCHET_CLIENT_TOKEN": base64.b64decode(secret["data"]["token"]).decode(),
        "HATCHET_CLIENT_HOST_PORT": cluster.operator.grpc_address,
        "HATCHET_CLIENT_TLS_STRATEGY": "none",
    }
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in variables.items())
