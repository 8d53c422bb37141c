"""When and where: the Dagster assets, the lake they write to, the schedules and the command line."""

import warnings

# Partition ranges in one run, and mapping specs over assets, are what this room is built on; their tests are ours.
warnings.filterwarnings("ignore", message=".*is currently in (beta|preview)")
