"""Boots an unpacked kernel under QEMU and runs one module of the tests in it, with the host's files visible read-only.

No hardware help is asked for (it is not to be had everywhere), so a guest is 10 to 13 times slower than the host: about
15 seconds to boot on a quiet machine. virtme-ng makes the initramfs and starts QEMU.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.toolbox import tool
from tests.vm.kernels import CACHE, Kernel

VIRTME = "virtme-ng==1.42"
ROOT = CACHE.parent
LIMIT_S = 420


def run_inside(kernel: Kernel, module: str, limit_s: float = LIMIT_S) -> dict[str, Any]:
    """Boot `kernel`, run `python -m MODULE OUT` as root with this interpreter; what it wrote to OUT as JSON.

    Raises AssertionError with the console's last lines when nothing was written.
    """
    with tempfile.TemporaryDirectory(prefix="otel-ebpf-vm.") as shared, kernel.linked():
        result, console = Path(shared) / "result.json", Path(shared) / "console"
        inside = [sys.executable, "-m", module, str(result)]
        # vng hands the command to a shell in the guest.
        launcher = Path(shared) / "inside.sh"
        launcher.write_text(
            "#!/bin/bash\n"
            f"cd {shlex.quote(str(ROOT))}\n"
            "export PYTHONDONTWRITEBYTECODE=1 PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin\n"
            f"export PYTHONPATH={shlex.quote(str(ROOT))}\n"  # the tree that the tests are of, whatever is installed
            f"{shlex.join(inside)} >{shlex.quote(shared)}/output 2>&1\n"
            "sync\n"
        )
        launcher.chmod(0o755)
        vng = tool("vng", VIRTME)
        # One CPU: emulated CPUs may run code that another is just patching (jump labels), which crashes the guest.
        command = [
            *(str(vng), "--disable-kvm", "--force-9p", "--run", str(kernel.image)),
            *("--memory", "2G", "--cpus", "1", "--user", "root", "--rwdir", shared, "--verbose"),
            # QEMU 7.2's AVX2 is wrong: numpy's argsort came out unsorted.
            "--qemu-opts=-cpu max,-avx2",
            *("--exec", str(launcher)),
        ]
        with console.open("wb") as log:
            try:
                # vng calls its own virtme-run by name.
                environment = {**os.environ, "PATH": f"{vng.parent}:{os.environ['PATH']}:/usr/sbin:/sbin"}
                subprocess.run(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=limit_s, cwd="/", env=environment
                )
            except subprocess.TimeoutExpired:
                log.write(f"\nno end after {limit_s:.0f} s".encode())
        if not result.exists():
            output = Path(shared) / "output"
            said = output.read_text(errors="replace") if output.exists() else "the module did not start"
            tail = "\n".join(console.read_text(errors="replace").splitlines()[-40:])
            raise AssertionError(f"{kernel.release}: no result.\n--- module\n{said}\n--- console\n{tail}")
        found: dict[str, Any] = json.loads(result.read_text())
        return found
