"""What a log and a state keep on disk: RocksDB, the checkpoint, files that only their user may read."""
