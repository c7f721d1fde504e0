import os
import secrets

# One fresh seed a run, the same in all processes that share it; set the variable to repeat a run.
FRESH_SEED = int(os.environ.setdefault("FWDKERN_TEST_SEED", str(secrets.randbelow(2**31))))
SEEDS = [0, FRESH_SEED]
