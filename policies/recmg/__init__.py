"""`recmg`, the default learned policy: one model of each kind for every capacity.

A small perceptron predicts the next use of a row from its history (`tieralloc._bindings`,
``policy/learned_policy.hpp``). The core weights a use within each horizon by the eviction age of
LRU at the capacity.
"""
