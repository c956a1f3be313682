"""For all tests: properties are judged by their examples, not by how fast a busy machine draws them. A failure that does not
come again leaves its example in the report."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("project")

# The tests start some hundred processes: each uses what an earlier one has compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
