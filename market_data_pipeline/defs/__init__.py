"""Floor 3: the Dagster glue. Assets, checks, jobs and the IO manager; no arithmetic and no path strings."""

import warnings

import dagster as dg

ACCEPTED_WARNINGS: tuple[tuple[type[Warning], str, str], ...] = (
    (
        dg.BetaWarning,
        "Parameter `backfill_policy`",
        "a backfill in one run is what lets a month file be written once; without it 31 days are 31 runs",
    ),
    (
        dg.PreviewWarning,
        "Specifying a partitions_def on an AssetCheckSpec",
        "without it a check on a partitioned asset is asked about all partitions at once",
    ),
    (
        DeprecationWarning,
        "InitResourceContext.dagster_run",
        "Dagster itself calls what it has deprecated whenever it sets up a ConfigurableResource",
    ),
    (
        DeprecationWarning,
        "Function `JobDefinition.run_request_for_partition`",
        "likewise, when build_schedule_from_partitioned_job makes a run request",
    ),
)
"""What Dagster warns of, and why it is done all the same. Nothing else may warn."""

for _category, _beginning, _reason in ACCEPTED_WARNINGS:
    warnings.filterwarnings("ignore", message=_beginning, category=_category)
