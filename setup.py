"""The native core; everything else about the package stands in setup.cfg and pyproject.toml."""

from glob import glob
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

FLAGS = ["-std=c11", "-Wall", "-Wextra", "-Werror=implicit-function-declaration"]
# These decoders are branches and memory, and faster without what -O3 unrolls.
LEVELS = {"itch": "-O2", "dbn": "-O2"}
# Cython's own code, not ours to mend.
QUIET = ["-Wno-unused-function", "-Wno-sign-compare", "-Wno-missing-field-initializers"]

SHARED = "tickplant._core._cyutility"
"""What Cython's code for memory views is compiled into, once for all modules."""

modules = [
    Extension(
        f"tickplant._core.{name}",
        [f"tickplant/_core/{name}.pyx"],
        depends=glob("tickplant/_core/*.h") + glob("tickplant/_core/*.pxd"),
        extra_compile_args=[*FLAGS, LEVELS.get(name, "-O3"), *QUIET],
    )
    for name in sorted(Path(file).stem for file in glob("tickplant/_core/*.pyx"))
]
shared = Extension(SHARED, [SHARED.replace(".", "/") + ".c"], extra_compile_args=QUIET)
setup(ext_modules=cythonize([*modules, shared], shared_utility_qualified_name=SHARED, language_level=3))
