"""Second tries: CI gives a failed test one (`--reruns`), names it, and is red if more than a few needed theirs.

One test in two thousand that fails when a machine stalls should not hide what the others say. But each is a fault, of
the test or of the product, with its first failure printed: a suite in which many need luck is broken.
"""

from __future__ import annotations

import pytest

MAX_SECOND_TRIES = 3


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or session.exitstatus != pytest.ExitCode.OK:
        return
    second_tries = len(reporter.stats.get("rerun", ()))
    if second_tries > MAX_SECOND_TRIES:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.section("too many second tries", red=True, bold=True)
        reporter.line(f"{second_tries} tests failed at first, {MAX_SECOND_TRIES} may: find out why (see their reports)")
