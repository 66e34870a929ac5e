"""What 20,000 logins take in memory whose clients hang up before they are answered.

    cargo build --release --example auth_server
    python3 benches/hang_up.py

Starts `auth_server` on a free port of loopback, with limits on logins so wide that none is refused by them, and prints its
resident memory in MiB: at the start, every tenth of the way, and the peak.
"""

import asyncio
import os
import re
import subprocess

LOGINS, AT_ONCE = 20_000, 400


def memory(pid, field):
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(field + r":\s+(\d+)", status.read()).group(1)) // 1024


async def hang_up(port, number):
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        body = f"grant_type=password&username=user{number}&password=wrong{number}"
        head = f"POST /token HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
        head += "content-type: application/x-www-form-urlencoded\r\n\r\n"
        writer.write((head + body).encode())
        await writer.drain()
        await asyncio.sleep(0.002 * (number % 50))
        writer.close()
    except OSError:
        pass


async def flood(port, pid):
    room, curve = asyncio.Semaphore(AT_ONCE), []

    async def one(number):
        async with room:
            await hang_up(port, number)
            if number % (LOGINS // 10) == 0:
                curve.append(memory(pid, "VmRSS"))

    await asyncio.gather(*(one(number) for number in range(LOGINS)))
    return curve


def main():
    environment = dict(os.environ, LISTEN="127.0.0.1:0", LOGIN_PER_MINUTE="1000000")
    server = subprocess.Popen(
        ["target/release/examples/auth_server"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        port = int(server.stdout.readline().strip().rsplit(":", 1)[1])
        print("at the start", memory(server.pid, "VmRSS"))
        print("meanwhile   ", *asyncio.run(flood(port, server.pid)))
        print("peak        ", memory(server.pid, "VmHWM"))
    finally:
        server.kill()


main()
