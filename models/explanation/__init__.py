"""Why an item has its rank: contributions by family, past items behind a score, and sentences."""
