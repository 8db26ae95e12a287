"""Fuzz one target: `python -m tests.fuzz TARGET FOLDER [OPTION OF LIBFUZZER ...]`.

The folder keeps what led to new places, and is where the next run goes on. Where a target fails, the input lies there
as crash-…, timeout-… or oom-…; the same command with that file in the folder's place runs it alone.
"""

import os
import sys
from pathlib import Path

import atheris

import omaha_mirror.cache  # noqa: F401 (it reads nothing of strangers, so it is left as it is)

with atheris.instrument_imports(include=["omaha_mirror"]):
    from tests.fuzz.targets import TARGETS


def main(name: str, place: Path, *options: str) -> None:
    """Does not come back: libFuzzer ends the process, with 0 where nothing was found."""
    target = TARGETS[name]
    arguments = [name, "-timeout=10", "-rss_limit_mb=1024", *options, str(place)]
    if not place.is_file():
        place.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(target.seeds()):
            (place / f"seed-{number}").write_bytes(seed)
        arguments.append(f"-artifact_prefix={place}{os.sep}")
    atheris.Setup(arguments, target.take)
    atheris.Fuzz()


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in TARGETS:
        sys.exit(f"{__doc__}\nTargets: {', '.join(TARGETS)}")
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
