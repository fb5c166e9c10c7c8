"""`recmg-paper`: the two models of RecMG (HPCA 2025) as in the paper, for reference.

The input is a chunk of 15 accesses. The caching model predicts for each access whether OPT keeps
its row. The prefetch model emits five points of the id space; its loss is the Chamfer distance to
the rows that OPT misses in the next 15 accesses. Decisions on a chunk take effect after it.
"""
