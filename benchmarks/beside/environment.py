"""The environment of the peers: made once, however many processes ask for it, with the versions of a file of its own.

python -m benchmarks.beside.environment VENV CONSTRAINTS
"""

import fcntl
import hashlib
import subprocess
import sys
import venv
from pathlib import Path

PEERS = ("pandas", "polars", "duckdb", "arcticdb", "nautilus_trader")
PROFILER = "py-spy"


def main() -> None:
    """Installs the peers; one that cannot be had for this Python is named, and the others are installed."""
    folder, constraints = Path(sys.argv[1]), Path(sys.argv[2])
    digest = hashlib.sha256(constraints.read_bytes() + sys.version.encode()).hexdigest()
    done = folder / ".installed"
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if done.exists() and done.read_text() == digest:
            return
        print(f"installing {', '.join((*PEERS, PROFILER))} into {folder} (once; a minute or two)", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        if not _installed(folder, constraints, (*PEERS, PROFILER)):
            for peer in (*PEERS, PROFILER):
                if not _installed(folder, constraints, ("pyarrow", peer)):
                    print(f"{peer} cannot be installed for Python {sys.version.split()[0]}: it is left out", flush=True)
        done.write_text(digest)


def _installed(folder: Path, constraints: Path, packages: tuple[str, ...]) -> bool:
    command = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # what a peer cannot do without must come as a wheel: none is compiled here
    command += ["--only-binary", ":all:", "-c", constraints, *packages]
    return subprocess.run(command, check=False).returncode == 0


if __name__ == "__main__":
    main()
