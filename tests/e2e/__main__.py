"""`make e2e`: make a cluster and the images, run the suite on it, show what failed, remove the cluster.

Arguments are pytest's: python -m tests.e2e -k fan_out. The cluster goes whatever happens, but for kill -9; then
`python -m tests.e2e.cluster down` finds what is left.
"""

import sys

from tests.e2e.cluster.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main(["run", sys.executable, "-m", "pytest", "tests/e2e", "--e2e", *sys.argv[1:]]))
