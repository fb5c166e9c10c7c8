"""tieralloc beside what people would use instead, alternating in one run; ../README.md has more."""
