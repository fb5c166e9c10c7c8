"""Builds the C++ core and the Cython layer over it; pyproject.toml has everything else."""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

CORE = Path("tieralloc/_core")

extension = Extension(
    "tieralloc._core",
    sources=["tieralloc/_core.pyx", *sorted(str(path) for path in CORE.rglob("*.cpp"))],
    depends=sorted(str(path) for path in CORE.rglob("*.hpp")),
    include_dirs=[str(CORE)],
    language="c++",
    extra_compile_args=["-std=c++20", "-O3", "-fvisibility=hidden", "-Wall", "-Wextra", "-pthread"],
    extra_link_args=["-pthread"],
)

setup(
    ext_modules=cythonize(
        [extension], compiler_directives={"language_level": "3"}, nthreads=os.cpu_count() or 1
    )
)
