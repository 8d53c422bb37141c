"""Why an item stands at its rank: contributions by family, past items behind a score, and sentences."""
