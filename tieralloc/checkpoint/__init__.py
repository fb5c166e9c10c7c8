"""Tables in files that others wrote: their headers, and the slow tier that reads rows in place."""
