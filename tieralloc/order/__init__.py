"""Orders of rows: which rows of a table share pages of a file.

``tieralloc arrange`` learns an order from a trace and writes it to a file; `Order.read` reads it.
`TieredStore.create_table` takes either.
"""

from tieralloc.order.order import Order, TableOrder
from tieralloc.order.pages import pages_of_rows

__all__ = ["Order", "TableOrder", "pages_of_rows"]
