"""tieralloc and its baselines side by side, alternating in one run; see ../README.md."""
