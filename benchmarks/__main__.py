"""`python -m benchmarks [ROW...]`: this mirror beside the peers that are installed, row by row; see `benchmarks`."""

import argparse
import resource
import sys
import time
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.clients import Clients
from benchmarks.report import publish, table, write
from benchmarks.results import Results
from benchmarks.rows import ROWS
from benchmarks.servers import ROOT, versions


def run(names: list[str], *, quick: bool, folder: Path) -> Results:
    """Measure rows one after the other; what is done so far is always written down."""
    command = " ".join(["make", "bench-quick" if quick else "bench"])
    if names:
        command = " ".join(["python -m benchmarks", *(["--quick"] if quick else []), *names])
    results = Results(command, versions())
    with Clients() as clients:
        bench = Bench(results, clients, quick=quick)
        for name in names or ROWS:
            began = time.monotonic()
            bench.row = name
            ROWS[name].run(bench)
            results.seconds[name] = time.monotonic() - began
            print(f"{name}: {results.seconds[name]:.0f} s", file=sys.stderr, flush=True)
            write(results, folder)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"all, or some of {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="less of everything: three minutes")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench", metavar="FOLDER")
    parser.add_argument(
        "--publish",
        action="store_true",
        help="put FOLDER/results.json into the README; run nothing",
    )
    args = parser.parse_args()
    if unknown := set(args.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    if args.publish:
        publish(Results.load(args.out / "results.json"))
        return
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    print(table(run(args.rows, quick=args.quick, folder=args.out)))


if __name__ == "__main__":
    main()
