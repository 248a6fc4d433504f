"""python -m apps.casebook"""

import os
import sys

if __name__ == "__main__":
    # Read when torch is imported: threads that wait for work then sleep, and leave the cores to others.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    from apps.casebook.command import main

    sys.exit(main())
