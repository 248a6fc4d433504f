"""Settings of the whole suite."""

import torch

# Tests run many small operations; more threads than that only spin against one another.
torch.set_num_threads(1)
