"""Fixtures, by topic."""

import resource

pytest_plugins = ["tests.fix_core", "tests.fix_plant", "tests.fix_postgres", "tests.hdb_plant"]

# Tests hold many plants in one process, and a mapping keeps a descriptor; 1024 is what a login shell allows.
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_hard, _hard))
