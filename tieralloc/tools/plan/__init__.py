"""The planner: from a trace, a device and targets to a budget and a policy."""
