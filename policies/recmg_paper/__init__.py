"""`recmg-paper`: the two models of RecMG (HPCA 2025) as the paper has them, for reference.

A chunk of 15 accesses goes in. The caching model says of each whether its row is worth keeping,
taught by what Belady's optimal replacement keeps; the prefetch model emits five points of the id
space, taught by the rows that OPT still misses in the 15 accesses that follow, with a Chamfer
distance. What a chunk decides takes effect after it.
"""
