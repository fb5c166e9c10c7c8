"""Settings of Sphinx: `make docs` builds build/docs, and warnings are errors."""

from importlib.metadata import version as installed

project = "tieralloc"
version = release = installed("tieralloc")
author = "the tieralloc authors"
project_copyright = author

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
templates_path: list[str] = []
exclude_patterns: list[str] = []

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
# Pages link to files of the repository, which GitHub shows and the built pages do not have.
suppress_warnings = ["myst.xref_missing"]

default_role = "code"
numpydoc_show_class_members = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_default_options = {
    "members": True,
    "inherited-members": "object, BaseException, Exception, ValueError, tuple, dict, Module",
}

html_theme = "furo"
html_title = "tieralloc"
html_static_path: list[str] = []
html_copy_source = False
html_show_sphinx = False
