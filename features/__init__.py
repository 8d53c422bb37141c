"""Logs → typed tables: events, moment state, features. Imports no other package of the repository."""
