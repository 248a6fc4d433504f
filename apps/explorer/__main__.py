"""python -m apps.explorer"""

import sys

from apps.explorer.command import main

if __name__ == "__main__":
    sys.exit(main())
