"""The servers under test: built, given keys and tokens, started on cores of their own, stopped by the id of their process."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

from machine import ROOT, WORK, cpu_seconds, family, pinned

ISSUER, AUDIENCE = "https://load.example", "api"
USER, PASSWORD = "alice", "correct horse battery staple"
ALGORITHMS = ("EdDSA", "RS256", "ES256", "HS256")
FASTAPI = ROOT / "benches" / "fastapi"


def build():
    """Builds the programs and returns where they are, by name."""
    command = ["cargo", "build", "--release", "--locked", "--bench", "load", "--example", "auth_server"]
    ran = subprocess.run(
        [*command, "--message-format=json-render-diagnostics"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    told = (json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{"))
    return {one["target"]["name"]: one["executable"] for one in told if one.get("executable")}


def fastapi():
    """Makes the virtual environment where there is none, and returns its `python`."""
    python = WORK / "venv" / "bin" / "python"
    wanted, mark = (FASTAPI / "requirements.txt").read_text(), WORK / "venv" / "requirements.txt"
    if not mark.exists() or mark.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", WORK / "venv"], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", FASTAPI / "requirements.txt"], check=True)
        mark.write_text(wanted)
    return str(python)


def openssl(*words, given=None):
    return subprocess.run(["openssl", *words], input=given, capture_output=True, text=True, check=True).stdout


def keys(algorithm):
    """New keys: what signs, and what verifies, as environment variables."""
    if algorithm == "HS256":
        secret = openssl("rand", "-hex", "32").strip()
        return {"ALGORITHM": algorithm, "SIGNING_KEY": secret, "VERIFYING_KEY": secret}
    kinds = {
        "EdDSA": ["-algorithm", "ed25519"],
        "RS256": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        "ES256": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    }
    private = openssl("genpkey", *kinds[algorithm])
    return {"ALGORITHM": algorithm, "SIGNING_KEY": private, "VERIFYING_KEY": openssl("pkey", "-pubout", given=private)}


class Bench:
    """What one run has in common: programs, a key and tokens for each algorithm."""

    def __init__(self, algorithms=ALGORITHMS, peer=True):
        WORK.mkdir(parents=True, exist_ok=True)
        self.programs = build()
        self.python = fastapi() if peer else None
        common = {"ISSUER": ISSUER, "AUDIENCE": AUDIENCE}
        self.settings = {algorithm: {**common, **keys(algorithm)} for algorithm in algorithms}

    def mint(self, algorithm, count):
        """A file with so many tokens, one a line. They last an hour."""
        path = WORK / f"{algorithm}.tokens"
        with path.open("w") as out:
            command = [self.programs["load"], "mint", str(count)]
            subprocess.run(command, env={**os.environ, **self.settings[algorithm]}, stdout=out, check=True, timeout=600)
        return path

    def start(self, kind, algorithm, workers=1, cores="0", extra=None):
        """Starts one of `load`, `auth_server` and `fastapi`, with further variables for it."""
        environment = {
            **os.environ,
            **self.settings[algorithm],
            "TOKIO_WORKER_THREADS": str(workers),
            "PASSWORD": PASSWORD,
        }
        if kind == "fastapi":
            command = [
                self.python,
                "-m",
                "uvicorn",
                "app:app",
                "--app-dir",
                str(FASTAPI),
                "--host",
                "127.0.0.1",
                "--port",
                "0",
            ]
            command += ["--loop", "uvloop", "--http", "httptools", "--workers", str(workers), "--no-access-log"]
        elif kind == "load":
            command = [self.programs["load"], "serve"]
        else:
            command = [self.programs["auth_server"]]
            user = {"username": USER, "password": PASSWORD, "scopes": ["me", "items", "admin"]}
            # As wide as they go: what is measured is the work, not the limits.
            environment |= {"LISTEN": "127.0.0.1:0", "LOGIN_PER_MINUTE": "1000000", "LOGIN_FAILURES": "100"}
            environment |= {"USERS": json.dumps([user])}
        processes = workers if kind == "fastapi" else 0
        return Server(f"{kind}-{algorithm}", pinned(cores, command), {**environment, **(extra or {})}, processes)


class Server:
    """A running one, which `with` stops."""

    def __init__(self, name, command, environment, processes=0):
        # So many of uvicorn's have to be up; it says that it runs before they do.
        self.processes = processes
        # Into a file, as a service's log is: a pipe that nobody reads would hold it up.
        self.log = WORK / f"{name}.log"
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                command, env=environment, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        self.pid = self.process.pid
        try:
            self.url = self._address()
        except BaseException:
            self.stop()
            raise

    def _address(self):
        end = time.monotonic() + 30
        while time.monotonic() < end and self.process.poll() is None:
            log = self.log.read_text()
            found = re.search(r"(?:listening|running) on (http://127\.0\.0\.1:(\d+))", log)
            if found and log.count("startup complete") >= self.processes and accepts(found[2]):
                return found[1]
            time.sleep(0.02)
        raise RuntimeError(f"does not listen: {self.log.read_text()[-2000:]}")

    def cpu(self):
        """What it has taken so far, with the processes that it has started."""
        return sum(map(cpu_seconds, family(self.pid)))

    def stop(self):
        """By number, and only what was started here: uvicorn's workers do not end with their parent."""
        if self.process.poll() is None:
            workers = family(self.pid)[1:]
            self.process.kill()
            for worker in workers:
                try:
                    os.kill(worker, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def ask(self, path, token=None, form=None):
        """Status and body of one request."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        data = urllib.parse.urlencode(form).encode() if form else None
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, data, headers), timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read()

    def sign_in(self, username=USER, password=PASSWORD):
        """The answer to a login, which has to succeed."""
        status, body = self.ask("/token", form=login_form(username, password))
        if status != 200:
            raise RuntimeError(f"login: {status} {body[:200]}")
        return json.loads(body)


def accepts(port):
    """Whether it does by now."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def login_form(username=USER, password=PASSWORD, scope="me items admin"):
    return {"grant_type": "password", "username": username, "password": password, "scope": scope}
