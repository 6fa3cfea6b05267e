"""The commands and their options. What a command does is in the module of its noun."""
