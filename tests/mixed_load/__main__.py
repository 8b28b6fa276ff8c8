"""`python -m tests.mixed_load --minutes 10`: exit code 1 and a sentence for each promise that was broken."""

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.mixed_load.scenario import run_mixed_load


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument(
        "--seed", type=int, default=random.randrange(10_000), help="of what is asked for, and of trouble"
    )
    parser.add_argument("--operator-lives", type=float, default=20.0, help="seconds from one kill -9 to the next")
    options = parser.parse_args()
    print(f"mixed load of {options.minutes:g} min with seed {options.seed}", file=sys.stderr)
    directory = Path(tempfile.mkdtemp(prefix="mixed-load-"))
    verdict = asyncio.run(
        run_mixed_load(
            directory,
            seconds=60 * options.minutes,
            seed=options.seed,
            operator_lives_seconds=options.operator_lives,
        )
    )
    for (workflow, phase), count in sorted(verdict.runs.items()):
        print(f"{workflow:<12} {phase:<10} {count:>6}")
    print(
        f"{sum(verdict.runs.values())} runs, {verdict.calls} calls of steps, {verdict.faults} faults of the API server"
    )
    print(f"killed: {verdict.operators_killed} operators, {verdict.workers_killed} workers")
    for sentence in verdict.broken[:100]:
        print(f"BROKEN {sentence}")
    print(f"{len(verdict.broken)} promises broken; logs in {directory}")
    return 1 if verdict.broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
