"""Programs that a check starts: they end with it, however it ends."""

import atexit
import re
import socket
import subprocess


def start(command, **options):
    child = subprocess.Popen(command, **options)
    atexit.register(end, child)
    return child


def end(child):
    child.kill()
    child.wait()


def started(command, wanted, **options):
    """Starts a program, and waits for a line of it: the program, and the first group of `wanted` in that line."""
    program = start(command, text=True, stdout=subprocess.PIPE, **options)
    said = ""
    for line in program.stdout:
        said += line
        if match := re.search(wanted, line):
            return program, match.group(1)
    raise SystemExit(f"{command} ended: {said}")


def ended(program, within):
    """What a program says that ends by itself, in peace."""
    said = program.communicate(timeout=within)[0]
    assert program.returncode == 0, said
    return said


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]
