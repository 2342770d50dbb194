"""Floor 2: where ticks come from. One contract; each source turns its vendor's form into the dataset's own columns."""
