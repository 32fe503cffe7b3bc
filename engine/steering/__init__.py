"""What may change while a job runs: pure; which settings are in force now, and why."""
