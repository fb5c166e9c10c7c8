"""A trace whose caching is easy to learn: rows of the table hot return, those of cold never."""

import numpy as np

from tieralloc.trace import Trace

HOT, COLD_PER_SAMPLE = 40, 4


def hot_and_cold(num_samples=800, seed=0, name="hot and cold"):
    rng = np.random.default_rng(seed)
    hot = rng.integers(0, HOT, num_samples)
    cold = rng.permutation(num_samples * COLD_PER_SAMPLE)
    lengths = np.repeat([[1], [COLD_PER_SAMPLE]], num_samples, axis=1)
    indices = np.concatenate([hot, cold])
    return Trace.from_lengths(indices, lengths, ["hot", "cold"], [HOT, len(cold)], name)
