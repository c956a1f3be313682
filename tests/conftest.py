"""For all tests: properties are judged by their examples, not by how fast a busy machine draws them."""

from hypothesis import HealthCheck, settings

settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")
