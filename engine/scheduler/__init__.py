"""The scheduler: a pure state machine. Events in, commands out; no clock, no network."""
