"""What all studies share: machine, turns, tables, processes, result files, arguments."""
