"""One provider a file. The port that they implement is `llm_worker.provider`."""
