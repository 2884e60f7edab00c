"""`python -m benchmarks [--seconds N] [--rounds N] [--json FILE]`: all contestants, interleaved, in one run."""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks import counts, memory, speed, stage
from benchmarks.post import Post
from benchmarks.run import Run


def main() -> None:
    """Prints a table, and writes JSON if asked."""
    arguments = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    arguments.add_argument("--seconds", type=float, default=2.0, help="for each measurement (2)")
    arguments.add_argument("--rounds", type=int, default=5, help="in turns (5)")
    arguments.add_argument("--only", nargs="+", default=[], help="some contestants only")
    arguments.add_argument("--pages", action="store_true", help="how fast their pages are, and no more")
    arguments.add_argument("--json", type=Path, help="file for the figures")
    asked = arguments.parse_args()
    stage.stand_aside()
    busy = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, stage.redis_server(Path(folder)) as url, asyncio.Runner() as runner:
        post = Post()
        runner.run(post.open())
        run = Run(Path(folder), url, runner, post, asked.seconds, asked.only)
        speed.measure(run, asked.rounds, sign_ins=not asked.pages)
        if not asked.pages:
            for name, contestant in run.contestants.items():
                # What serves the same app costs the same.
                if contestant.app:
                    counts.count(run, name)
            memory.measure(run, asked.rounds)
    print(f"Python {sys.version.split()[0]}, one worker of four threads on one core; load average before {busy:.1f}")
    results = {what: {name: _best(what, found) for name, found in of.items()} for what, of in run.figures.items()}
    for what, of in results.items():
        print(what)
        for name, figure in of.items():
            print(f"  {name:<42} {figure:>12,.2f} {_part(run.figures[what], name) if 'a second' in what else ''}")
    if asked.json:
        asked.json.write_text(json.dumps({"best": results, "rounds": run.figures}, indent=2) + "\n")


def _best(what: str, found: list[float]) -> float:
    """Of all rounds the one that the rest of the machine disturbed least."""
    return max(found) if what.endswith("a second") else min(found)


def _part(of: dict[str, list[float]], name: str) -> str:
    """What it was of the first in the same round, the median of all."""
    first = next(iter(of))
    parts = [figure / limit for figure, limit in zip(of[name], of[first], strict=True)]
    return f"{statistics.median(parts):.2f} of {first}"


if __name__ == "__main__":
    main()
