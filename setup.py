"""The native core; everything else about the package stands in setup.cfg and pyproject.toml."""

from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

FLAGS = ["-std=c11", "-Wall", "-Wextra", "-Werror=implicit-function-declaration"]
# The decoder is branches and memory, and faster without what -O3 unrolls.
LEVELS = {"core": "-O3", "runs": "-O3", "session": "-O3", "itch": "-O2", "levels": "-O3", "dbn": "-O2"}
# Cython's own code, not ours to mend.
QUIET = ["-Wno-unused-function", "-Wno-sign-compare", "-Wno-missing-field-initializers"]

setup(
    ext_modules=cythonize(
        [
            Extension(
                f"tickplant._core.{name}",
                [f"tickplant/_core/{name}.pyx"],
                depends=glob("tickplant/_core/*.h") + glob("tickplant/_core/*.pxd"),
                extra_compile_args=[*FLAGS, level, *QUIET],
            )
            for name, level in LEVELS.items()
        ],
        language_level=3,
    )
)
