"""Policies on recorded traces: trained on the first half, counted on the second, in one table."""
