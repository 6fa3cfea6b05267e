"""The agent service: owns sessions, their loop and their transcripts, and streams them."""
