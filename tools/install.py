"""Makes the virtual environment, once, however many processes ask for it at the same time.

Usage: python tools/install.py VENV FILE...   (the files that decide what is installed)
"""

import fcntl
import hashlib
import subprocess
import sys
import venv
from pathlib import Path


def main(folder: Path, inputs: list[Path]) -> None:
    """Installs the project with its pinned versions, if what decides about it has changed since the last time."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in inputs)).hexdigest()
    done = folder / ".installed"
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists() or done.read_text() != digest:
            print(f"installing into {folder} (once; a minute or two)", flush=True)
            venv.create(folder, with_pip=True)
            command = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*command, "-c", "constraints.txt", "-e", ".[ui,dev]"], check=True)
        # newer than its inputs, so that make does not ask again
        done.write_text(digest)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
