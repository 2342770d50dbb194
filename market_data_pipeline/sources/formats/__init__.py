"""Vendors' file formats: streams of typed batches out of what a vendor sends, wherever the file comes from."""
