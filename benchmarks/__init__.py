"""Workloads, rivals and figures: `python -m benchmarks [NAME ...]` or `fwdkern bench`.

Each workload of `registry.py` is a request with several contenders (`own.py`, `rivals/`). `runner.py` first compares
every result with references (`gate.py`), then takes the fastest variant of each contender (chunk, memory format), then
times them in turn in one process beside torch.mm, and at last measures memory in processes of their own. `NOTES.md`
says what was tried to be faster.
"""
