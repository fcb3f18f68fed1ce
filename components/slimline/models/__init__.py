"""Networks: the zoo, how a model is kept and rebuilt without pickle, and how weights are fitted."""

import os

# Torch's threads would spin while they wait for one another; where cores are shared, that was
# measured to cost eight times the time. OpenMP reads it once, when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Warns of names that a container without network cannot look up, and of nothing we could act on.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
