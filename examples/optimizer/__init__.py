"""Tunes a small model on the examples that an agent wrote, and tells the agent when it is done."""
