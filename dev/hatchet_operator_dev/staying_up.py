"""Without ``--run``: workers stay up and are replaced when their code changes; runs come from elsewhere."""

import asyncio
import shlex
from pathlib import Path

import watchfiles
import yaml
from rich.text import Text

from hatchet_cli.dashboard.server import serving
from hatchet_cli.drawing import draw_failure, draw_run
from hatchet_cli.screen import Screen
from hatchet_cli.tree import find_failure
from hatchet_operator.cluster.kinds import PODS
from hatchet_operator.errors import NotFound
from hatchet_operator.resources.reasons import ConditionType, Phase
from hatchet_operator.terminal import one_line
from hatchet_operator_dev.local import Local
from hatchet_operator_dev.local_cluster import LocalCluster
from hatchet_operator_dev.one_run import make_run, says_what_it_waits_for
from hatchet_operator_dev.program import Program
from hatchet_operator_dev.view import WorkerPod
from hatchet_operator_dev.worker_pool import NAMESPACE

_ENDS_EVERYTHING = "Ctrl-C ends everything."
_HINT_SECONDS = 3.0


async def stay_up(local: Local) -> None:
    """Run until cancelled."""
    screen = local.screen
    screen.show_status(says_what_it_waits_for(local))
    async with serving(local.cluster.api, NAMESPACE) as page, asyncio.TaskGroup() as group:
        if local.program is not None and local.workers:
            group.create_task(_reload_on_change(local.cluster, local.program, screen))
        reporter = _Reporter(local)
        if not local.workers:
            await local.say_how_to_start_a_worker()
            screen.print(Text(f"  {_ENDS_EVERYTHING}", "dim"), "")
        await reporter.until_ready()
        screen.show(Text)
        reporter.report_now()
        await _print_usage(local, page)
        await reporter.report()


class _Reporter:
    """Says once what has happened to each worker and each run without a parent."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self._view = local.cluster.view
        self._shown = local.shown
        self._screen = local.screen
        self._output = local.output
        self._said: set[tuple[str, ...]] = set()
        self._failing: set[str] = set()

    async def until_ready(self) -> None:
        """Return when the first worker has registered; meanwhile, say why it has not."""
        hint_at = asyncio.get_running_loop().time() + _HINT_SECONDS
        while not (self._has_worker() and self._view.names()):  # two watches, of which either may be ahead
            self._report_workers()
            await self._view.change(within_seconds=1)
            if asyncio.get_running_loop().time() > hint_at and not self._failing:
                hint_at = float("inf")
                wrote = [self._output.of(pod.name) for pod in self._view.pods.values()]
                self._screen.show_status(says_what_it_waits_for(self._local, "a workflow", last_lines=wrote))

    def _has_worker(self) -> bool:
        return not self._local.workers or any(pod.is_registered for pod in self._view.pods.values())

    async def report(self) -> None:
        """Keep going forever."""
        while True:
            self.report_now()
            await self._view.change()

    def report_now(self) -> None:
        self._report_workers()
        self._report_workflows()
        self._report_runs()

    def _report_workers(self) -> None:
        names = ", ".join(sorted(self._view.names().values()))
        for pod in self._view.pods.values():
            if pod.is_leaving:
                continue
            if pod.trouble and pod.uid not in self._failing:
                self._failing.add(pod.uid)
                self._output.mute(pod.name)  # it has said what is wrong, and would say so at every new start
                self._screen.print(Text("✘ ", "red").append(_trouble(pod, self._shown), "default"))
            elif (
                pod.is_registered
                and (its := self._view.names_of(pod))
                and self._is_news("ready", pod.uid, str(pod.restarts))
            ):
                self._failing.discard(pod.uid)
                self._output.unmute(pod.name)
                self._screen.print(
                    Text("✔ ", "green").append(one_line(f"{pod.name} is ready: {', '.join(its)}"), "default")
                )

        if not self._local.workers and names and self._is_news("registered", names):
            self._screen.print(Text("✔ ", "green").append(one_line(f"registered: {names}"), "default"))

    def _report_workflows(self) -> None:
        """Say what in code or in an object makes no sense, and yet keeps nothing from registering."""
        for workflow in self._view.registered_workflows():
            status = workflow.status
            invalid = [
                one.message for one in status.conditions if (one.type, one.status) == (ConditionType.VALID, "False")
            ]
            for problem in (*invalid, *filter(None, (cron.message for cron in status.crons))):
                if self._is_news("problem", workflow.metadata.uid, problem):
                    words = one_line(f'workflow "{workflow.exact_name}": {problem}')
                    self._screen.print(Text("! ", "yellow").append(words, "default"))

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
        return one_line(f"{shown} could not be started: {pod.trouble}")
    return f"{shown} ended (exit code {pod.last_exit_code}); it is tried again now and then, and when it changes"


async def _reload_on_change(cluster: LocalCluster, program: Program, screen: Screen) -> None:
    """Delete the pool's pods when a .py file in the program's folder changes; the operator makes new ones."""
    async for changes in watchfiles.awatch(program.watched, watch_filter=watchfiles.PythonFilter()):
        changed = sorted({Path(path).relative_to(program.watched).as_posix() for _, path in changes})
        words = one_line(f"{', '.join(changed)} changed, {program.shown} is restarted")
        screen.print(Text("↻ ", "cyan").append(words, "default"))
        for pod in list(cluster.view.pods.values()):
            try:
                await cluster.api.delete(PODS, NAMESPACE, pod.name, uid=pod.uid)
            except NotFound:
                continue


async def _print_usage(local: Local, page: str) -> None:
    example = next(iter(local.cluster.view.registered_workflows()))  # they are kept in the order of their registration
    run_file = local.directory / "run.yaml"
    run_file.write_text(yaml.safe_dump(make_run(example.metadata.name, "{}"), sort_keys=False))
    environment = await local.write_environment()
    one_liner = (
        f"from hatchet_sdk import Hatchet; "
        f'print(Hatchet().admin.run_workflow("{example.exact_name}", {{}}).sync_result())'
    )
    reloads = "Saving a .py file next to the worker's reloads it. " if local.workers else ""
    lines = Text.assemble(
        ("  Look at runs, or start one, in a browser\n", "bold"),
        f"    {page}\n\n",
        ("  Start a run with kubectl\n", "bold"),
        f"    export KUBECONFIG={shlex.quote(str(local.kubeconfig))}\n",
        f"    kubectl create -f {shlex.quote(str(run_file))}\n",
        "    kubectl get wfr --watch\n\n",
        ("  or with Python", "bold"),
        ("  (the file exports HATCHET_CLIENT_TOKEN, …_HOST_PORT and …_TLS_STRATEGY)\n", "dim"),
        f"    source {shlex.quote(str(environment))}\n",
        f"    python -c {shlex.quote(one_liner)}\n\n",
        (f"  {reloads}{_ENDS_EVERYTHING}", "dim"),
    )
    local.screen.print("", lines, "")
