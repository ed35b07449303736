"""The process around the pipeline: reads, merges partitions, takes over, recovers, commits, is measured."""
