"""Tools on traces and stores: simulate, replay, reports, the doctor, the command line."""
