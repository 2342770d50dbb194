"""The test server of Google's storage, as far away as one likes, in a process of its own.

Prints its address; for each line of its input, what it was asked since the last one.
python -m benchmarks.beside.far_storage BUCKET SECONDS
"""

import json
import sys
from collections import Counter

from benchmarks.grouped import kind
from market_data_pipeline_tests.gcs_server import Fault, GcsServer


def main() -> None:
    """Serves until its input ends."""
    bucket, seconds = sys.argv[1], float(sys.argv[2])
    server = GcsServer()
    server.weather = lambda _: Fault(lambda _: True, slow=seconds)
    server.memory.create(bucket)
    server.start()
    print(server.url, flush=True)
    for _ in sys.stdin:
        asked, server.requests = server.requests, []
        print(json.dumps(Counter(kind(each.method, each.path, each.is_media) for each in asked)), flush=True)
    server.stop()


if __name__ == "__main__":
    main()
