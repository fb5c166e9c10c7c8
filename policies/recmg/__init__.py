"""`recmg`: our own learned policy, the default.

A small perceptron is told what was seen of a resident row (`tieralloc._core.RowHistory`) and says
how likely it is to be used again within each of some horizons. Asked when victims are needed, of a
few residents drawn at random, it is never out of date: a row that ages is judged by its age. One
model serves every capacity; which horizons count is a matter of how long rows stay there.
"""
