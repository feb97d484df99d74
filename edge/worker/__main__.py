"""`python -m edge.worker DESCRIPTOR` is a worker process that starts by itself."""

import sys

from edge import compiled

if __name__ == "__main__":
    compiled.use()
    # Only now: what is imported before runs as it stands.
    from edge.worker.process import main

    sys.exit(main(int(sys.argv[1])))
