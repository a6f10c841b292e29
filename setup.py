"""The native core; everything else about the package stands in setup.cfg and pyproject.toml."""

from glob import glob

from Cython.Build import cythonize
from setuptools import Extension, setup

FLAGS = ["-std=c11", "-O3", "-Wall", "-Wextra", "-Werror=implicit-function-declaration"]
# Cython's own code, not ours to mend.
QUIET = ["-Wno-unused-function", "-Wno-sign-compare", "-Wno-missing-field-initializers"]

setup(
    ext_modules=cythonize(
        [
            Extension(
                f"tickplant._core.{name}",
                [f"tickplant/_core/{name}.pyx"],
                depends=glob("tickplant/_core/*.h"),
                extra_compile_args=FLAGS + QUIET,
            )
            for name in ("core", "itch")
        ],
        language_level=3,
    )
)
