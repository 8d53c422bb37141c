"""Dagster assets and schedules, the lake, and the command line."""

import warnings

# Runs over partition ranges and mapped asset specs are in beta or preview; our tests cover our use of them.
warnings.filterwarnings("ignore", message=".*is currently in (beta|preview)")
