"""Runs a command in a pseudo-terminal of so many columns; says {"code", "output"} as JSON on stdout.

terminal.py COLUMNS INTERRUPT_AFTER COMMAND...: Ctrl-C is typed as soon as the output has the text INTERRUPT_AFTER.
"""
import fcntl, json, os, pty, select, struct, sys, termios, time

columns, needle, command = int(sys.argv[1]), sys.argv[2].encode(), sys.argv[3:]
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    os.execvp(command[0], command)
output, typed, deadline = b"", False, time.monotonic() + 25
while time.monotonic() < deadline:
    if not select.select([terminal], [], [], 0.1)[0]:
        continue
    try:
        chunk = os.read(terminal, 65536)
    except OSError:
        break
    if not chunk:
        break
    output += chunk
    if needle and needle in output and not typed:
        os.write(terminal, b"\x03")
        typed = True
else:
    os.kill(pid, 9)
_, status = os.waitpid(pid, 0)
code = os.waitstatus_to_exitcode(status)
print(json.dumps({"code": code, "output": output.decode().replace("\r\n", "\n")}))
