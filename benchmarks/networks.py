"""Networks of their own for processes of one machine, so that they reach one another only by an address."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

HOST = "10.213.0.1"
MASK = 24
_BRIDGE = "marketdata"


@contextmanager
def apart(names: Sequence[str]) -> Iterator[Mapping[str, Sequence[str]]]:
    """A network namespace for each name, joined by a bridge on which this machine has the address HOST.

    A process in one of them has a loopback of its own: it reaches what listens on HOST, and nothing of this machine's
    127.0.0.1. Needs Linux, iproute2 and root. Yields what a command has to begin with to run in the namespace of a
    name; all goes again at the end.

    Raises:
        PermissionError: this machine does not let one make them.
    """
    if os.geteuid() != 0 or shutil.which("ip") is None:
        raise PermissionError("network namespaces need root and the program ip")
    with ExitStack() as stack:

        def made(*command: str, undone: Sequence[str]) -> None:
            done = subprocess.run(["ip", *command], capture_output=True, text=True, check=False)
            if done.returncode:
                raise PermissionError(f"ip {' '.join(command)}: {done.stderr.strip()}")
            stack.callback(subprocess.run, ["ip", *undone], check=False, capture_output=True)

        made("link", "add", _BRIDGE, "type", "bridge", undone=["link", "del", _BRIDGE])
        _ip("addr", "add", f"{HOST}/{MASK}", "dev", _BRIDGE)
        _ip("link", "set", _BRIDGE, "up")
        for number, name in enumerate(names, start=2):
            space, here = f"{_BRIDGE}-{name}", f"md-{number}"
            made("netns", "add", space, undone=["netns", "del", space])
            # the pair goes with its end in the namespace
            _ip("link", "add", here, "type", "veth", "peer", "name", "eth0", "netns", space)
            _ip("link", "set", here, "master", _BRIDGE, "up")
            _ip("-n", space, "addr", "add", f"{HOST.rpartition('.')[0]}.{number}/{MASK}", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", space, "link", "set", device, "up")
        yield {name: ["ip", "netns", "exec", f"{_BRIDGE}-{name}"] for name in names}


def _ip(*command: str) -> None:
    subprocess.run(["ip", *command], check=True)
