"""Where a deployment lives and what it talks to, read from `MOMENTRANK_…` variables."""
