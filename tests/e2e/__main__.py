"""`make e2e`: make a cluster and the images, run the suite on it, show what failed, remove the cluster.

Arguments are pytest's: python -m tests.e2e -k fan_out. A suite that takes longer than it may fails, with the tests that
were left not run. The cluster goes whatever happens, but for kill -9; then
`python -m tests.e2e.cluster down` finds what is left.
"""

import os
import sys

from tests.e2e.cluster.__main__ import main
from tests.e2e.images import PUBLISHED

_LONGEST_SECONDS = 45 * 60  # more than twice what a quiet machine of two cores needs

if __name__ == "__main__":
    os.environ["PUBLISHED"] = " ".join(PUBLISHED)
    pytest = [sys.executable, "-m", "pytest", "tests/e2e", "--e2e", f"--session-timeout={_LONGEST_SECONDS}"]
    raise SystemExit(main(["run", *pytest, *sys.argv[1:]]))
