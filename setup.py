"""Builds the core and the baselines, C++ under Cython; pyproject.toml has everything else."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

CORE = Path("tieralloc/_core")
BINDINGS = Path("tieralloc/_bindings")
BASELINES = Path("policies/baselines")
#: What the baselines compile of the core: its simulator and what that needs.
SIMULATOR = [
    "base/error",
    "base/memory",
    "base/numa/nodes",
    "base/numa/placement",
    "base/numa/syscalls",
    "sim/simulator",
]
HEADERS = (".hpp", ".inc")
FLAGS = ["-std=c++20", "-O3", "-fvisibility=hidden", "-Wall", "-Wextra", "-pthread"]


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


def extension(name, module, sources, folders):
    """Compile a Cython module and C++ sources, with the headers in folders."""
    headers = (path for folder in folders for path in folder.rglob("*") if path.suffix in HEADERS)
    return Extension(
        name,
        sources=[str(path) for path in [module, *sources]],
        depends=sorted(str(path) for path in [*headers, *module.parent.glob("*.pxi")]),
        include_dirs=[str(folder) for folder in folders],
        language="c++",
        extra_compile_args=FLAGS,
        extra_link_args=["-pthread"],
    )


extensions = [
    extension(
        "tieralloc._bindings._native",
        BINDINGS / "_native.pyx",
        sorted(CORE.rglob("*.cpp")),
        [CORE],
    ),
    extension(
        "tieralloc.policies.baselines._native",
        BASELINES / "_native.pyx",
        [
            *sorted(BASELINES.glob("_core/*.cpp")),
            *(CORE / f"{name}.cpp" for name in SIMULATOR),
            *sorted(CORE.glob("eviction/*.cpp")),
            *sorted(CORE.glob("index/*.cpp")),
        ],
        [CORE, BASELINES / "_core"],
    ),
]

setup(
    ext_modules=cythonize(extensions, compiler_directives={"language_level": "3"}),
    cmdclass={"build_ext": ParallelBuild},
)
