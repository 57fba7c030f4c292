"""The client of serve.py: calls it with JPEGs, so many at a time, and prints what that took.

Arguments: the port, and a folder of JPEGs. It says how many frames there are. Then each line of standard input is a
request, `{"in_flight": 4, "seconds": 5.0}`, and each answer is one JSON line: frames a second, and the median and 95th
percentile of a call in milliseconds.
"""

import asyncio
import json
import pathlib
import sys
import time

import grpc


async def one(call, jpegs, times, start, end):
    at = 0
    while (now := time.perf_counter()) < end:
        await call(jpegs[at % len(jpegs)])
        at += 1
        # Calls that began while the server warmed up do not count.
        if now >= start:
            times.append(time.perf_counter() - now)


async def main():
    jpegs = [path.read_bytes() for path in sorted(pathlib.Path(sys.argv[2]).glob("*.jpg"))]
    options = [("grpc.max_receive_message_length", 8 << 20)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{sys.argv[1]}", options=options) as channel:
        call = channel.unary_unary("/fth.Encoder/Embed")
        print(json.dumps({"frames": len(jpegs)}), flush=True)
        for line in iter(sys.stdin.readline, ""):
            request = json.loads(line)
            begin = time.perf_counter()
            start = begin + request.get("warm", 1.0)
            times, end = [], start + request["seconds"]
            await asyncio.gather(*[one(call, jpegs, times, start, end) for _ in range(request["in_flight"])])
            took = time.perf_counter() - start
            times.sort()
            answer = {
                "fps": len(times) / took,
                "p50_ms": 1e3 * times[len(times) // 2],
                "p95_ms": 1e3 * times[len(times) * 95 // 100],
                "calls": len(times),
            }
            print(json.dumps(answer), flush=True)


asyncio.run(main())
