"""When slices run: partitions and schedules, files that arrive, events that arrive late."""
