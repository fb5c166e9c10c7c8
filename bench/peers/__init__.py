"""tieralloc and its baselines side by side, alternating in one run; ../README.md has more."""
