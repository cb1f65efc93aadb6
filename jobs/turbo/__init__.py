"""The turbo engine: our own decode at the memory limit, prefill at the compute limit."""
