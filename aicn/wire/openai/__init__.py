"""Bodies of OpenAI's HTTP API, `/v1`: what must be read of requests, and what is not just passed on of answers."""
