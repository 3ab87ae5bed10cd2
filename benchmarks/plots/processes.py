"""What a process holds in memory, as Linux tells it."""

from __future__ import annotations

from pathlib import Path


def resident_megabytes(pid: int, what: str = "VmRSS") -> float:
    """What it holds in memory; ``VmHWM``: what it has held at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kilobytes,) = (int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))
    return kilobytes * 1024 / 1e6
