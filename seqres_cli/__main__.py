"""`python -m seqres_cli` is `seqres`."""

import sys

from seqres_cli.main import main

if __name__ == "__main__":
    sys.exit(main())
