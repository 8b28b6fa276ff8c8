"""How hypothesis searches: without clocks, as test machines are shared; in CI always with the same examples."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "shared-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("shared-machine")
