"""`recmg`: our own learned policy, the default.

A small perceptron predicts when a row is used next, from its history (`tieralloc._bindings`,
``policy/learned_policy.hpp``). One model serves every capacity: the core weighs a use within each
horizon by how long rows stay at that capacity.
"""
