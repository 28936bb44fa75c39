"""Settings for all tests: the same examples on every run, so that a red build is red again when it is looked at."""

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")
