"""What several rooms use: sizes, files, progress, torch."""
