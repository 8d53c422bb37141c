"""Folders and services of a deployment, read from the variables `MOMENTRANK_…`."""
