"""`fwdkern serve`: a page that shows a network, its layers and units, and what each of them saw.

The server process answers the browser; each visitor has a worker process that parses the network and computes, and
that may be lost without harm. Only `explorer` and what it calls knows the engine.
"""
