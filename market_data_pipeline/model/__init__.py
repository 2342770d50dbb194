"""Floor 0: what the data is. Instruments, datasets and layouts; nothing here reads, writes or computes."""
