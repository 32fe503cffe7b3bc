"""Worker processes: where they run, what they are told and what they say."""
