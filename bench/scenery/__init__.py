"""The common parts of all experiments: machine, turns, tables, processes, results, arguments."""
