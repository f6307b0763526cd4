"""Drives a program in a pseudo-terminal: python3 tests/terminal.py PROGRAM [ARGUMENT...], steps on standard input.

Each step is a word and, in hexadecimal, a text: "expect TEXT" waits until TEXT appears after what was matched before,
"send TEXT" types it. Prints all that the program wrote. Ends with the program's status, or 99 when a text did not appear
within the time limit, which is then said on standard error."""

import os
import pty
import select
import signal
import sys
import time

TIME_LIMIT = 10  # seconds for one text to appear, on a busy machine


def main():
    steps = [line.split() for line in sys.stdin if line.strip()]
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.argv[1], sys.argv[1:])
    output = b""
    matched = 0

    def read(end):
        """Takes what the program wrote; False when it has ended, or the time has."""
        nonlocal output
        ready, _, _ = select.select([terminal], [], [], max(0, end - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the program closed its side
            data = b""
        output += data
        return data != b""

    def give_up(problem):
        print(f"{problem} in {output[matched:]!r}", file=sys.stderr)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        sys.exit(99)

    for kind, text in steps:
        text = bytes.fromhex(text)
        if kind == "send":
            os.write(terminal, text)
            continue
        end = time.monotonic() + TIME_LIMIT
        while output.find(text, matched) < 0:
            if not read(end):
                give_up(f"no {text!r}")
        matched = output.find(text, matched) + len(text)
    end = time.monotonic() + TIME_LIMIT
    while read(end):
        pass
    if time.monotonic() > end:
        give_up("it did not end after its last step")
    sys.stdout.buffer.write(output)
    _, code = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(code) & 255)


main()
