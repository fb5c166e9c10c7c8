"""The modules that an import of the package loads."""

import sys

from support import run_python


def modules_after(statement):
    run = run_python(f"import sys\n{statement}\nprint(*sys.modules)")
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_import_loads_only_modules_for_serving():
    modules = modules_after("import tieralloc; tieralloc.TieredStore")
    assert "numpy" in modules
    assert "tieralloc.policies.baselines" not in modules
    optional = {"torch", "matplotlib", "tqdm", "psutil", "pandas", "scipy", "hypothesis"}
    assert not modules & optional


def test_serving_loads_no_torch(folder):
    modules = modules_after(
        f"""
import tieralloc as ta
with ta.TieredStore({str(folder / "new.tier")!r}, fast_rows=8) as store:
    store.create_table("item", 10, 4).lookup([1])
    store.stats()
"""
    )
    assert not modules & {"torch", "matplotlib", "tqdm", "tieralloc.nn", "tieralloc.trace"}


def test_package_attributes_are_listed_others_raise():
    run = run_python(
        """
        import tieralloc as ta
        need_torch = {"nn", "distributed"}
        listed = [name for name in ta.__all__ if name not in need_torch]
        assert set(ta.__all__) <= set(dir(ta))
        print(*[type(getattr(ta, name)).__name__ for name in listed])
        try:
            ta.no_such_name
        except AttributeError as error:
            print(error)
        """
    )
    kinds, error = run.stdout.splitlines()
    assert set(kinds.split()) <= {"type", "module", "function"}
    assert error == "module 'tieralloc' has no attribute 'no_such_name'"


def test_run_python_imports_this_package():
    run = run_python("import tieralloc; print(tieralloc.__file__)")
    assert run.stdout.strip() == sys.modules["tieralloc"].__file__


def test_policies_without_torch_name_the_extra_to_install():
    run = run_python(
        """
        import sys
        sys.modules["torch"] = None
        import tieralloc, tieralloc.policies.labels
        try:
            import tieralloc.policies.training
        except ImportError as error:
            print(error)
        """
    )
    assert "pip install 'tieralloc[torch]'" in run.stdout


def test_policies_are_imported_as_tieralloc_policies():
    modules = modules_after("import tieralloc as ta; ta.policies")
    assert "tieralloc.policies" in modules
    assert not modules & {"policies", "torch"}
