"""Builds the core, a shared library, and the Cython modules that link to it.

The library lies beside the bindings, where the modules find it by their run paths: one copy of the
core's registries, fork guard and types serves all modules. The files of a room are compiled as one,
because most of the time goes into headers and templates. All products of the build are kept in
build/, also those of pip: a later build compiles what changed. ccache is used if it is there.
"""

import os
import shutil
import sys
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
#: The code that Cython would otherwise put into each module: memory views, exceptions.
SHARED_UTILITIES = "tieralloc._bindings._cyutility"
FLAGS = ["-std=c++20", "-g0", "-Wall", "-Wextra", "-Wno-subobject-linkage", "-pthread"]
C_FLAGS = ["-g0", "-O2", "-fvisibility=hidden"]
#: Calls inside the core stay direct although its symbols are exported.
CORE_FLAGS = [*FLAGS, "-O3", "-fno-semantic-interposition"]
BINDING_FLAGS = [*FLAGS, "-O2", "-fvisibility=hidden"]
LINK_FLAGS = ["-pthread", "-Wl,-s"]
CORE_LINK_FLAGS = [*LINK_FLAGS, "-Wl,-Bsymbolic", f"-Wl,-soname,{LIBRARY.name}"]
#: Compiled alone: files that take long or set targets by pragmas, and the hot path of lookups, so
#: that other files of its room do not change what is inlined there.
SEPARATE = ("kernels/", "index/", "store/lookup.cpp")


def files(folder, *suffixes):
    return sorted(str(path) for suffix in suffixes for path in folder.rglob(f"*.{suffix}"))


core_sources = files(CORE, "cpp")
headers = files(CORE, "hpp", "inc") + files(BASELINES, "hpp")


class IncrementalBuild(build_ext):
    """Builds the core's library, then the modules; compiles only what changed."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()
        # pip builds editable packages in temporary folders, from which nothing could be used again.
        kept = f"{self.plat_name}-{sys.implementation.cache_tag}"
        self.build_temp = str(Path("build", f"temp.{kept}"))
        self.core_temp = str(Path("build", f"temp.{self.plat_name}-core"))
        if self.inplace:
            self.build_lib = str(Path("build", f"inplace.{kept}"))

    def build_extensions(self):
        for name in ["compiler_so", "compiler_so_cxx"] if shutil.which("ccache") else []:
            command = getattr(self.compiler, name)
            if "ccache" not in command[0]:
                self.compiler.set_executable(name, ["ccache", *command])
        self.compile_always = self.compiler._compile
        self.compiler._compile = self.compile_if_stale
        library = Path(self.build_lib, LIBRARY)
        self.build_core(library)
        for extension in self.extensions:
            extension.library_dirs.append(str(library.parent))
            if extension.name.startswith("tieralloc.policies.baselines."):
                sources = files(BASELINES / "_core", "cpp")
                unit = Path(self.build_temp, "baselines.cpp")
                extension.sources.append(as_one_file(unit, sources, BASELINES / "_core"))
        super().build_extensions()

    def build_core(self, library):
        def compile_one(source):
            return self.compiler.compile(
                [source],
                output_dir=self.core_temp,
                include_dirs=[str(CORE)],
                debug=self.debug,
                extra_postargs=CORE_FLAGS,
            )

        with ThreadPoolExecutor(self.parallel) as pool:
            objects = [path for paths in pool.map(compile_one, self.core_units()) for path in paths]
        if self.force or newer_group([*objects, __file__], str(library)):
            self.compiler.link_shared_object(
                objects,
                str(library),
                debug=self.debug,
                extra_postargs=CORE_LINK_FLAGS,
                target_lang="c++",
            )

    def core_units(self):
        """Return the files to compile, those that take long first."""
        separate, rooms = [], {}
        for source in core_sources:
            name = Path(source).relative_to(CORE)
            shared = rooms.setdefault(name.parts[0], [])
            (separate if str(name).startswith(SEPARATE) else shared).append(source)
        by_size = sorted(filter(rooms.get, rooms), key=lambda room: -len(rooms[room]))
        units = [(Path(self.core_temp, f"{room}.cpp"), rooms[room]) for room in by_size]
        return separate + [as_one_file(unit, sources, CORE) for unit, sources in units]

    def compile_if_stale(self, target, source, ext, cc_args, extra_postargs, pp_opts):
        dependencies = Path(target).with_suffix(".d")
        if self.force or not is_current(target, dependencies):
            print(f"compile {source}", flush=True)
            cc_args = [*cc_args, "-MMD", "-MF", str(dependencies)]
            self.compile_always(target, source, ext, cc_args, extra_postargs, pp_opts)

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
        return [
            *core_sources,
            *headers,
            *files(BASELINES, "cpp", "pyx", "pxd"),
            *files(BINDINGS, "pyx", "pxd"),
        ]


def as_one_file(unit, sources, folder):
    """Return the path of a file that includes all sources, by their names in a folder."""
    text = "".join(f'#include "{Path(source).relative_to(folder)}"\n' for source in sources)
    if not unit.exists() or unit.read_text() != text:
        unit.parent.mkdir(parents=True, exist_ok=True)
        unit.write_text(text)
    return str(unit)


def is_current(target, dependencies):
    """Return whether an object is younger than the files that its compilation has read."""
    try:
        built = os.stat(target).st_mtime_ns
        read = dependencies.read_text().replace("\\\n", " ").split()[1:]
        return all(os.stat(path).st_mtime_ns <= built for path in [__file__, *read])
    except OSError:
        return False


def extension(name, module, run_paths):
    return Extension(
        name,
        sources=[str(module)],
        depends=[__file__, *headers],
        include_dirs=[str(CORE), str(BASELINES / "_core")],
        libraries=["tieralloc_core"],
        runtime_library_dirs=run_paths,
        language="c++",
        extra_compile_args=BINDING_FLAGS,
        extra_link_args=LINK_FLAGS,
    )


extensions = [
    Extension(SHARED_UTILITIES, [], extra_compile_args=C_FLAGS, extra_link_args=LINK_FLAGS),
    extension(
        "tieralloc.policies.baselines._native",
        BASELINES / "_native.pyx",
        # Installed, and in a source tree, where policies/ lies beside tieralloc/.
        ["$ORIGIN/../../_bindings", "$ORIGIN/../../tieralloc/_bindings"],
    ),
    *(
        extension(f"tieralloc._bindings.{module.stem}", module, ["$ORIGIN"])
        for module in sorted(BINDINGS.glob("*.pyx"))
    ),
]

setup(
    ext_modules=cythonize(
        extensions,
        build_dir="build/cython",
        compiler_directives={"language_level": "3"},
        shared_utility_qualified_name=SHARED_UTILITIES,
    ),
    cmdclass={"build_ext": IncrementalBuild},
)
