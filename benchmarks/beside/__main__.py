"""Runs the cases and tells what came out.

python -m benchmarks.beside --size small
python -m benchmarks.beside --only read-day,candles --rounds 9
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.beside import report
from benchmarks.beside.cases import SIZES, Case, Ground
from benchmarks.beside.runner import ROOT, ContenderFailed, Environment, Measured, make_data, own_environment, run
from benchmarks.beside.table import CASES

_PEERS = ("polars", "duckdb", "arcticdb", "nautilus_trader")
_PAGE = ROOT / "docs" / "benchmarks.md"


def main() -> None:
    """Takes one case after the other; a case that fails is told of, and the others go on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--only", default="", metavar="NAMES", help=f"of {', '.join(CASES)}; with commas")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contender; the median is told")
    parser.add_argument("--peers", type=Path, default=ROOT / ".venv-bench" / "bin" / "python", metavar="PYTHON")
    parser.add_argument("--folder", type=Path, help="keeps the data for the next time")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    parser.add_argument("--docs", action="store_true", help="write the table into docs/benchmarks.md")
    arguments = parser.parse_args()
    chosen = _chosen(parser, arguments.only)
    environment = own_environment(arguments.peers)
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="beside-"))
    home = folder / arguments.size
    home.mkdir(parents=True, exist_ok=True)
    try:
        failed = _run(chosen, Ground(home, SIZES[arguments.size]), environment, arguments)
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    if failed:
        sys.exit("\n".join(failed))


def _chosen(parser: argparse.ArgumentParser, only: str) -> list[Case]:
    names = [name.strip() for name in only.split(",") if name.strip()] or list(CASES)
    if unknown := [name for name in names if name not in CASES]:
        parser.error(f"{unknown[0]!r} is no case; there are {', '.join(CASES)}")
    return [CASES[name] for name in names]


def _run(chosen: list[Case], ground: Ground, environment: Environment, arguments: argparse.Namespace) -> list[str]:
    make_data(environment, ground.home, arguments.size, {name for case in chosen for name in case.needs})
    about = report.circumstances(arguments.size, arguments.rounds, _versions(environment))
    took: dict[str, dict[str, Measured | str]] = {}
    failed = []
    for case in chosen:
        print(f"{case.name} …", file=sys.stderr, flush=True)
        about["loads"][case.name] = round(os.getloadavg()[0], 1)
        try:
            took[case.name] = run(case, ground, arguments.size, arguments.rounds, environment)
        except ContenderFailed as problem:
            failed.append(str(problem))
            continue
        done = [case for case in chosen if case.name in took]
        if arguments.json:  # after each case: the next ones may take long
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps(report.as_json(about, done, took), indent=1) + "\n")
    done = [case for case in chosen if case.name in took]
    found = [line for case in done for line in report.lines(case, took[case.name])]
    said = [text for case in done for text in _said(case, took[case.name])]
    report.show(found)
    print("\n".join(said))
    if arguments.docs and not failed:
        report.into_page(_PAGE, about, found, said)
    return failed


def _said(case: Case, took: dict[str, Measured | str]) -> list[str]:
    told = [f"{label}: {each.said}" for label, each in took.items() if isinstance(each, Measured) and each.said]
    parts = [*([case.note] if case.note else []), *told]
    return [f"{case.work}: {'; '.join(parts)}"] if parts else []


def _versions(environment: Environment) -> dict[str, str]:
    if environment.peers is None:
        return {}
    code = (
        "import sys, importlib.metadata as m\n"
        "known = {d.metadata['Name'].lower().replace('-', '_'): d.version for d in m.distributions()}\n"
        "print(*(f'{n}={known[n]}' for n in sys.argv[1:] if n in known))"
    )
    done = subprocess.run([environment.peers, "-c", code, *_PEERS], capture_output=True, text=True, check=True)
    return dict(each.split("=") for each in done.stdout.split())


if __name__ == "__main__":
    main()
