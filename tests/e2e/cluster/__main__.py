"""A cluster for tests: of kind where Docker answers, else of its own programs, without Docker (needs root and Linux).

python -m tests.e2e.cluster up                     start it (12 s) and wait until its node is ready
python -m tests.e2e.cluster load FILE.tar ...      give it images; pods use them with imagePullPolicy: Never
python -m tests.e2e.cluster exec kubectl get pods  run a command that reaches it; without Docker, Services and pods too
python -m tests.e2e.cluster kill apiserver         kill -9 a component, which stays dead until it is started
python -m tests.e2e.cluster start apiserver
python -m tests.e2e.cluster down                   end it and remove every trace
python -m tests.e2e.cluster run COMMAND ...        all of that for one command: images, cluster, command, down
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.cluster.errors import ClusterError
from tests.e2e.cluster.kind import KindCluster, docker_answers
from tests.e2e.cluster.native import NativeCluster
from tests.e2e.cluster.temporary import run_in


def find_cluster() -> KindCluster | NativeCluster:
    """Return the kind of cluster that this machine can have; it may be up or not."""
    return KindCluster() if docker_answers() else NativeCluster()


def main(arguments: list[str] | None = None) -> int:
    """Run one command."""
    options = _parse(arguments)
    cluster = find_cluster()
    try:
        match options.command:
            case "up":
                cluster.up()
                print(f"up; KUBECONFIG={cluster.kubeconfig}")
            case "down":
                cluster.down()
            case "load":
                for archive in options.archives:
                    cluster.load(archive)
            case "kill":
                cluster.kill(options.component)
            case "start":
                cluster.start(options.component)
            case "exec":
                program, *rest = cluster.inside(options.words)
                os.execvpe(program, [program, *rest], {**os.environ, **cluster.environment()})
            case "run":
                return run_in(cluster, options.words)
    except (ClusterError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.e2e.cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up")
    commands.add_parser("down")
    commands.add_parser("load").add_argument("archives", type=Path, nargs="+")
    for name in ("exec", "run"):
        commands.add_parser(name).add_argument("words", nargs=argparse.REMAINDER)
    for name in ("kill", "start"):
        commands.add_parser(name).add_argument("component")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
