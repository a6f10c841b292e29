"""Fixtures, by topic."""

pytest_plugins = ["tests.fix_core", "tests.fix_plant", "tests.fix_postgres"]
