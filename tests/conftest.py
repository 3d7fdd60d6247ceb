"""Settings of the whole suite."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

# In CI the same examples every time: a red run must have its reason in the change. Elsewhere they are new each time.
settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("dev", deadline=None)  # a loaded machine is no bug
settings.load_profile("ci" if os.environ.get("CI") else "dev")

# A shell starts its background jobs with Ctrl-C ignored, and children would inherit that from us.
signal.signal(signal.SIGINT, signal.default_int_handler)
