"""The source `files`: a folder of files bought or downloaded from a vendor, found by their names."""
