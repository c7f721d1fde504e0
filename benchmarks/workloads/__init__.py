"""How each workload of the registry is made ready."""
