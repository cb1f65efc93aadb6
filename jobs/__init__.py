"""Measuring: one load group on one device. Uses torch and transformers; never Ray."""
