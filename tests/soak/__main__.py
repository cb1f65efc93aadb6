"""See the package's docstring."""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import tests.soak
from tests.soak.farm import soak
from tests.soak.nodes import two_nodes


def main() -> None:
    ask = argparse.ArgumentParser(description=tests.soak.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--cells", type=int, default=300)
    ask.add_argument("--faults", type=int, default=200)
    ask.add_argument("--limit-s", type=float, default=1800.0, help="No more faults after so many seconds.")
    ask.add_argument("--seed", type=int, default=42)
    given = ask.parse_args()
    with tempfile.TemporaryDirectory() as out, two_nodes() as cluster:
        report = soak(cluster, Path(out), given.cells, given.faults, given.seed, given.limit_s)
    print(json.dumps(asdict(report) | {"ok": report.ok}, indent=1))
    sys.exit(0 if report.ok else 1)


if __name__ == "__main__":
    main()
