"""Drives a program in a pseudo-terminal: python3 tests/pty.py PROGRAM [ARGUMENT...], steps on standard input.

Each step is a word and, in hexadecimal, a text: "expect TEXT" waits until TEXT appears after what was matched before,
"send TEXT" types it. Prints all that the program wrote. Ends with the program's status, or 99 when a text did not appear
within the time limit, which is then said on standard error."""

import os
import pty
import select
import sys
import time

TIME_LIMIT = 20  # seconds for one text to appear, on a busy machine


def main():
    steps = [line.split() for line in sys.stdin if line.strip()]
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.argv[1], sys.argv[1:])
    output = b""
    matched = 0

    def read(limit):
        nonlocal output
        ready, _, _ = select.select([terminal], [], [], limit)
        if not ready:
            return True
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the program closed its side
            data = b""
        output += data
        return data != b""

    status = None
    for kind, text in steps:
        text = bytes.fromhex(text)
        if kind == "send":
            os.write(terminal, text)
            continue
        end = time.monotonic() + TIME_LIMIT
        while output.find(text, matched) < 0:
            if time.monotonic() > end or not read(0.1):
                print(f"no {text!r} in {output[matched:]!r}", file=sys.stderr)
                os.kill(child, 9)
                status = 99
                break
        if status is not None:
            break
        matched = output.find(text, matched) + len(text)
    while status is None and read(TIME_LIMIT):
        pass
    sys.stdout.buffer.write(output)
    _, code = os.waitpid(child, 0)
    sys.exit(status if status is not None else os.waitstatus_to_exitcode(code) & 255)


main()
