"""All cases, in the order of the table."""

from benchmarks.beside import candles, gcs, months, read, runs, scale, write

CASES = {
    case.name: case
    for case in (*write.CASES, *read.CASES, *candles.CASES, *months.CASES, *scale.CASES, *runs.CASES, *gcs.CASES)
}

THROUGH_DAGSTER = {case.name for case in (*scale.CASES, *runs.CASES)}
"""Cases whose runs are whole runs of the pipeline, each of many seconds."""
