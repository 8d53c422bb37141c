"""Logs become typed tables: events, moment state, features. Pure Polars; imports no other room."""
