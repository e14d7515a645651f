"""``python -m benchmarks.peers [trl] [vllm]``: install the peers; what is there already is left alone."""

from __future__ import annotations

import argparse
import sys

from benchmarks.peers import PEERS, PeerMissing, install


def main() -> int:
    """Exit code 0 also when a peer cannot be installed: the benchmarks then say so in their tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*PEERS, "all"], default="all")
    options = parser.parse_args()
    for name in PEERS if "all" in options.names else options.names:
        try:
            print(f"{name}: {install(name)}", flush=True)
        except PeerMissing as error:
            print(f"{name}: not installed: {error}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
