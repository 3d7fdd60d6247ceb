"""OpenAI's HTTP API, for its clients as they are: a model is named, and the network answers from whoever has it."""
