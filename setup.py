"""Builds the C++ core and the Cython layer over it; pyproject.toml has everything else."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CORE = Path("tieralloc/_core")
HEADERS = [path for suffix in ("*.hpp", "*.inc") for path in CORE.rglob(suffix)]


class ParallelBuild(build_ext):
    """Compiles the sources of an extension side by side, which setuptools does one by one."""

    def build_extensions(self):
        compile_one = self.compiler.compile

        def compile_all(sources, **options):
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                objects = pool.map(lambda source: compile_one([source], **options), sources)
                return [path for paths in objects for path in paths]

        self.compiler.compile = compile_all
        super().build_extensions()


extension = Extension(
    "tieralloc._core",
    sources=["tieralloc/_core.pyx", *sorted(str(path) for path in CORE.rglob("*.cpp"))],
    depends=sorted(str(path) for path in [*HEADERS, *Path("tieralloc").glob("*.pxi")]),
    include_dirs=[str(CORE)],
    language="c++",
    extra_compile_args=["-std=c++20", "-O3", "-fvisibility=hidden", "-Wall", "-Wextra", "-pthread"],
    extra_link_args=["-pthread"],
)

setup(
    ext_modules=cythonize([extension], compiler_directives={"language_level": "3"}),
    cmdclass={"build_ext": ParallelBuild},
)
