"""Processes, cores and what the machine was doing meanwhile."""

import os
import platform
import subprocess
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "target" / "load"
TICK = os.sysconf("SC_CLK_TCK")


def pinned(cores, command):
    """`command` on these cores alone; all of them if there are none to choose."""
    return ["taskset", "-c", cores, *command] if cores else list(command)


def cpu_seconds(pid):
    """What a process has taken, all its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def family(pid):
    """A process and those that it has started."""
    started = (task / "children" for task in Path(f"/proc/{pid}/task").iterdir())
    return [pid, *(int(child) for children in started for child in children.read_text().split())]


def machine_seconds():
    """CPU time of the whole machine since it started: busy, and stolen by its host."""
    user, nice, system, _idle, _wait, irq, soft, steal = map(
        int, Path("/proc/stat").read_text().split("\n")[0].split()[1:9]
    )
    return (user + nice + system + irq + soft) / TICK, steal / TICK


def memory(pid):
    """Resident KiB, threads and open files."""
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    return {
        "rss_kib": int(status["VmRSS"].split()[0]),
        "anon_kib": int(status["RssAnon"].split()[0]),
        "threads": int(status["Threads"]),
        "files": len(os.listdir(f"/proc/{pid}/fd")),
    }


def said(*command):
    """The first line that a program says, or `None` if it cannot be asked."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except OSError:
        return None
    return (ran.stdout + ran.stderr).strip().split("\n")[0]


def describe():
    """What has to be known of a machine to judge its figures."""
    info = Path("/proc/cpuinfo").read_text().splitlines()
    field = lambda name: next((line.split(":", 1)[1].strip() for line in info if line.startswith(name)), "unknown")
    return {
        "cpu": field("model name"),
        "family_model": f"{field('cpu family')}/{field('model	')}",
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "rustc": said("rustc", "--version"),
        "wrk": said("wrk", "-v").split(" Copyright")[0],
        "python": platform.python_version(),
        "siblings": Path("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list").read_text().strip(),
        "disk": said("findmnt", "-no", "FSTYPE", "-T", str(WORK)),
        "sync_us": sync_time(),
        "commit": said("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
    }


def sync_time():
    """Microseconds until a page is durable where the databases are: what each refresh in SQLite waits for."""
    path, took = WORK / "sync", []
    with path.open("wb") as file:
        for _ in range(50):
            file.write(bytes(4096))
            file.flush()
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - begun)
    path.unlink()
    return round(median(took) * 1e6, 1)
