"""Builds the core, a shared library, and the Cython modules that link to it.

The library lies beside the bindings, where the modules find it by their run paths: one copy of the
core's registries, fork guard and types serves all modules.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.modified import newer_group

CORE = Path("tieralloc/_core")
BINDINGS = Path("tieralloc/_bindings")
BASELINES = Path("policies/baselines")
LIBRARY = BINDINGS / "libtieralloc_core.so"
FLAGS = ["-std=c++20", "-O3", "-Wall", "-Wextra", "-pthread"]
#: Calls inside the core stay direct although its symbols are exported.
CORE_FLAGS = [*FLAGS, "-fno-semantic-interposition"]
CORE_LINK_FLAGS = ["-pthread", "-Wl,-Bsymbolic", f"-Wl,-soname,{LIBRARY.name}"]

core_sources = sorted(str(path) for path in CORE.rglob("*.cpp"))
core_headers = sorted(str(path) for suffix in ("hpp", "inc") for path in CORE.rglob(f"*.{suffix}"))


class BuildWithCore(build_ext):
    """Builds the core's library, then the modules side by side."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extensions(self):
        library = Path(self.build_lib, LIBRARY)
        if self.force or newer_group([*core_sources, *core_headers], str(library)):
            self.build_core(library)
        for extension in self.extensions:
            extension.library_dirs.append(str(library.parent))
        super().build_extensions()

    def build_core(self, library):
        def compile_one(source):
            return self.compiler.compile(
                [source],
                output_dir=self.build_temp,
                include_dirs=[str(CORE)],
                debug=self.debug,
                extra_postargs=CORE_FLAGS,
            )

        with ThreadPoolExecutor(self.parallel) as pool:
            objects = [path for paths in pool.map(compile_one, core_sources) for path in paths]
        self.compiler.link_shared_object(
            objects,
            str(library),
            debug=self.debug,
            extra_postargs=CORE_LINK_FLAGS,
            target_lang="c++",
        )

    def copy_extensions_to_source(self):
        super().copy_extensions_to_source()
        self.copy_file(str(Path(self.build_lib, LIBRARY)), str(LIBRARY), level=self.verbose)

    def get_outputs(self):
        return sorted({*super().get_outputs(), str(Path(self.build_lib, LIBRARY))})

    def get_output_mapping(self):
        mapping = super().get_output_mapping()
        if self.inplace:
            mapping[str(Path(self.build_lib, LIBRARY))] = str(LIBRARY)
        return mapping

    def get_source_files(self):
        return [*super().get_source_files(), *core_sources]


def extension(name, module, run_paths, sources=(), folder=None):
    """Describe a Cython module, with C++ sources and headers of its own in `folder`."""
    headers = folder.glob("*.hpp") if folder else ()
    return Extension(
        name,
        sources=[str(path) for path in [module, *sources]],
        depends=[*core_headers, *sorted(str(path) for path in headers)],
        include_dirs=[str(path) for path in [CORE, folder] if path],
        libraries=["tieralloc_core"],
        runtime_library_dirs=run_paths,
        language="c++",
        extra_compile_args=[*FLAGS, "-fvisibility=hidden"],
        extra_link_args=["-pthread"],
    )


extensions = [
    extension(
        "tieralloc.policies.baselines._native",
        BASELINES / "_native.pyx",
        # Installed, and in a source tree, where policies/ lies beside tieralloc/.
        ["$ORIGIN/../../_bindings", "$ORIGIN/../../tieralloc/_bindings"],
        sorted(BASELINES.glob("_core/*.cpp")),
        BASELINES / "_core",
    ),
    *(
        extension(f"tieralloc._bindings.{module.stem}", module, ["$ORIGIN"])
        for module in sorted(BINDINGS.glob("*.pyx"))
    ),
]

setup(
    ext_modules=cythonize(extensions, compiler_directives={"language_level": "3"}),
    cmdclass={"build_ext": BuildWithCore},
)
