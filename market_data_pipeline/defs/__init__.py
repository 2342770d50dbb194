"""Floor 3: the Dagster glue. Assets, checks, jobs and the IO manager; no arithmetic and no path strings."""
