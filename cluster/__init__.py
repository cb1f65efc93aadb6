"""Scheduling: which group runs where, what happens when a process dies, who writes the records."""
