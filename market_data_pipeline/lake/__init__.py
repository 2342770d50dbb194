"""Floor 2: where data rests. Object stores, Parquet files, the writer that keeps layouts equal, and the reader."""
