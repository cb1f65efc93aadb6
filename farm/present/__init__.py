"""Rows in, files out: tables, figures, reports. Never torch, never Ray, never a measurement."""
