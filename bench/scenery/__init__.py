"""What all studies share: machine, turns, tables, plots, processes, result files, arguments."""
