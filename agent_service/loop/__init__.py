"""The agent: what it is told, what it does with a turn, and who runs it."""
