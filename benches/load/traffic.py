"""What a server meets in a day, at a fixed rate: callers, sessions that begin and end, guesses, bad tokens, scanners.

Everyone has a schedule, and a request's time counts from the moment at which it was due: whoever has to wait for an answer
before the next request finds that in the figures.
"""

import asyncio
import json
import random
import time
from collections import Counter, deque
from urllib.parse import urlencode

OWN, TURNS = ("/users/me", "/users/me/items"), 30
NOISE = [
    b"GET /.env HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET /wp-login.php HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET /..%2f..%2fetc/passwd HTTP/1.1\r\nhost: a\r\n\r\n",
    b"POST /token HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
    b"POST /token HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: 40000\r\n\r\n"
    + b"a" * 40000,
    b"POST /revoke HTTP/1.1\r\nhost: a\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: 7\r\n\r\ntoken=a",
    b"TRACE / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET /users/me HTTP/1.1\r\nhost: a\r\nauthorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n",
    b"GET /users/me HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 127.0.0.1\r\ncookie: access_token="
    + b"a" * 4000
    + b"\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64,
    b"GET /users/me HTTP/1.1\r\nhost: a",
    b"",
]


class Connection:
    """HTTP/1.1, one request at a time, kept alive."""

    def __init__(self, port):
        self.port, self.writer = port, None

    async def ask(self, method, path, token=None, form=None):
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        body = urlencode(form) if form else ""
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n"
        head += f"authorization: Bearer {token}\r\n" if token is not None else ""
        head += f"content-type: application/x-www-form-urlencoded\r\ncontent-length: {len(body)}\r\n" if form else ""
        self.writer.write(f"{head}\r\n{body}".encode())
        answer = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = answer.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        text = await self.reader.readexactly(int(length or 0))
        if b"connection: close" in answer:
            self.writer.close()
            self.writer = None
        return int(answer[9:12]), text


class Traffic:
    """All of them together."""

    def __init__(self, port, tokens, sign_in, rate, users):
        self.port, self.tokens, self.sign_in, self.users = port, tokens, sign_in, users
        self.times, self.counts, self.wrong = {}, Counter(), Counter()
        # Tokens of sessions that have ended: each opens nothing.
        self.dead = deque(maxlen=500)
        self.next_token = self.next_user = 0
        self.parts = [
            (self.get, 40, 0.80 * rate),
            (self.chain, 8, 0.10 * rate),
            (self.bad_token, 6, 0.08 * rate),
            (self.scan, 4, 0.02 * rate),
            (self.guess, 2, 3.0),
        ]

    async def run(self, seconds):
        start = time.perf_counter() + 0.1
        tasks = []
        for part, count, rate in self.parts:
            for number in range(count):
                tasks.append(asyncio.create_task(self.paced(part, start, seconds, number, count / rate)))
        await asyncio.gather(*tasks)

    async def paced(self, part, start, seconds, number, every):
        random_number = random.Random(f"{part.__name__}{number}")
        due, state = (
            start + every * random_number.random(),
            {"connection": Connection(self.port), "random": random_number},
        )
        while due < start + seconds:
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            try:
                kind = await asyncio.wait_for(part(state), 10)
                self.times.setdefault(kind, []).append(time.perf_counter() - due)
            except (OSError, EOFError, TimeoutError, ValueError) as broken:
                self.wrong[f"{part.__name__}: {type(broken).__name__}"] += 1
                state["connection"] = Connection(self.port)
            due += every

    def expect(self, what, status, allowed):
        self.counts[f"{what} {status}"] += 1
        if status not in allowed:
            self.wrong[f"{what}: {status}"] += 1

    async def get(self, state):
        self.next_token = (self.next_token + 1) % len(self.tokens)
        token = self.tokens[self.next_token]
        # Nobody's whom the store knows, and so for the route that does not ask it.
        status, _ = await state["connection"].ask("GET", "/admin/reports", token)
        self.expect("get", status, {200})
        return "get"

    async def chain(self, state):
        connection, left = state["connection"], state.get("left", 0)
        if left == 0 and "access" in state:
            ended = state.pop("access")
            status, _ = await connection.ask("POST", "/logout", ended)
            self.expect("logout", status, {204})
            self.dead.append(ended)
            return "logout"
        if left == 0:
            self.next_user = (self.next_user + 1) % len(self.users)
            form = self.sign_in(self.users[self.next_user])
            status, text = await connection.ask("POST", "/token", form=form)
            self.expect("login", status, {200})
            what, left = "login", TURNS
        elif left % 2:
            status, _ = await connection.ask("GET", state["random"].choice(OWN), state["access"])
            self.expect("own get", status, {200})
            state["left"] = left - 1
            return "own get"
        else:
            form = {"grant_type": "refresh_token", "refresh_token": state["refresh"]}
            status, text = await connection.ask("POST", "/token", form=form)
            self.expect("refresh", status, {200})
            what, left = "refresh", left - 1
        if status == 200:
            answer = json.loads(text)
            state |= {"access": answer["access_token"], "refresh": answer["refresh_token"], "left": left}
        else:
            state.pop("access", None)
            state["left"] = 0
        return what

    async def bad_token(self, state):
        number = state["random"]
        good = number.choice(self.tokens)
        head, payload, signature = good.split(".")
        kinds = ["", "a", "a.b.c", f"{head}.{payload}.", "A" * 9000]
        kinds += [f"{head}.{payload[:-4]}AAAA.{signature}", f"{head}.{payload}.{signature[::-1]}"]
        kinds += [number.choice(self.dead)] if self.dead else []
        status, _ = await state["connection"].ask("GET", "/admin/reports", number.choice(kinds))
        self.expect("bad token", status, {400, 401})
        return "bad token"

    async def guess(self, state):
        name = f"somebody{state['random'].randrange(50)}"
        status, _ = await state["connection"].ask("POST", "/token", form=self.sign_in(name, "wrong"))
        self.expect("guess", status, {400, 429})
        return "guess"

    async def scan(self, state):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        noise = state["random"].choice(NOISE)
        try:
            writer.write(noise)
            if writer.can_write_eof():
                writer.write_eof()
            answer = await reader.read(4096)
        except OSError:
            # Cut off while it was still talking. That a server is gone shows where nobody can connect.
            answer = b""
        finally:
            writer.close()
        # Nobody is let in, and the server does not fail. Tokens that are none may be revoked (RFC 7009 §2.2).
        status = int(answer[9:12]) if answer[:7] == b"HTTP/1." else 0
        revoked = {200} if noise.startswith(b"POST /revoke") else set()
        self.expect("scan", status, {0, *range(400, 500)} | revoked)
        return "scan"
