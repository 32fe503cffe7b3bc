"""What a worker process runs on: greenlets, executors, buffers, pacing."""
