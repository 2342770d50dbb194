"""Floor 1: what is computed. Pure functions from Arrow to Arrow; no Dagster, no cloud client, no file system."""
