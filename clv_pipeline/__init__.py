"""What each customer is worth from here on, why, and what to do about it."""

import os

# OpenMP threads that spin while cores are busy slow small fits tenfold; read when it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
