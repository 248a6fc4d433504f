"""python -m apps.explorer"""

import os
import sys

if __name__ == "__main__":
    # Read when torch is imported: threads that wait for work then sleep, and leave the cores to others.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from apps.explorer.command import main

    sys.exit(main())
