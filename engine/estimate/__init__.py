"""What a job would take: requests, time and money, before it is planned or run."""
