"""One HTML page of a result file: its tables and plots, and nothing to be loaded from elsewhere."""

from tieralloc.tools.page.page import PAGE, to_page, write_page
from tieralloc.tools.page.results import read_results

__all__ = ["PAGE", "read_results", "to_page", "write_page"]
