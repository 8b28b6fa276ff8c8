"""One container: starts a command and makes sure that nothing of it outlives the node. Standard library only.

    node ──socket (stdin)──► shim ──► command ──► whatever it starts

The node sends one byte per order: T asks the command to end (SIGTERM), K ends everything (SIGKILL). The end of the
socket means that the node is gone, however it died, and counts as K. The shim answers one line of JSON when the command
has started or could not be started, and one when it ended. Like the first process of a container, the command takes all
others with it.

The trap: killing a process group misses who left it. On Linux the shim adopts orphaned descendants (it is a "child
subreaper"), so it kills until it has no children. Elsewhere the process group is all that can be done.
"""

import ctypes
import json
import os
import select
import signal
import socket
import sys
from typing import NoReturn

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
_ON_LINUX = sys.platform == "linux"


def main(command: list[str]) -> None:
    node = socket.socket(fileno=os.dup(0))
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)  # a handler, or nothing wakes `select`
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # orders come from the node alone
    try:
        pid = _start(command)
    except OSError as error:
        _tell(node, {"failed": f"{error.strerror}: {error.filename or command[0]}"})
        return
    _tell(node, {"started": pid})
    while (status := _exit_status(pid)) is None:
        ready, _, _ = select.select([node.fileno(), wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 4096)
        if node.fileno() in ready:
            order = _receive(node)
            if order == b"T":
                os.kill(pid, signal.SIGTERM)
            else:
                os.killpg(pid, signal.SIGKILL)
    _kill_descendants(pid)
    _tell(node, {"exited": status})


def _start(command: list[str]) -> int:
    """Start the command in a session of its own, and return its process id.

    Raises:
        OSError: It is not there, or not executable.
    """
    failed_read, failed_write = os.pipe()  # closes by itself when exec succeeds
    shim = os.getpid()
    pid = os.fork()
    if pid == 0:
        _become(command, shim, failed_write)
    os.close(failed_write)
    error = os.read(failed_read, 64)
    os.close(failed_read)
    if error:
        os.waitpid(pid, 0)
        raise OSError(int(error), os.strerror(int(error)), command[0])
    return pid


def _become(command: list[str], shim: int, failed: int) -> NoReturn:
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # the shim itself may be killed
        if os.getppid() != shim:
            os._exit(137)
        os.execvp(command[0], command)  # noqa: S606 -- running a pod's command is what this is for
    except OSError as error:
        os.write(failed, str(error.errno).encode())
    finally:
        os._exit(127)


def _exit_status(pid: int) -> int | None:
    """Reap what has ended; return the command's exit code, negative for a signal, or None while it runs."""
    while True:
        ended, status = os.waitpid(-1, os.WNOHANG)
        if ended == pid:
            return os.waitstatus_to_exitcode(status)
        if ended == 0:
            return None


def _kill_descendants(group: int) -> None:
    """Kill until no process is left: the children of a killed process become the shim's, and are killed next."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:  # macOS says so of a group that has only zombies
        pass
    while children := _children():
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            os.waitpid(pid, 0)


def _children() -> list[int]:
    if not _ON_LINUX:
        return []
    shim = os.getpid()
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    fields = file.read().rpartition(b")")[2].split()  # a process may have ")" in its name
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == shim:
                found.append(int(entry))
    return found


def _receive(node: socket.socket) -> bytes:
    try:
        return node.recv(1)
    except ConnectionError:
        return b""


def _tell(node: socket.socket, message: dict[str, object]) -> None:
    try:
        node.sendall(json.dumps(message).encode() + b"\n")
    except OSError:  # the node has ended: there is no one to report to
        os._exit(1)


def _prctl(option: int, value: int) -> None:
    if _ON_LINUX:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    main(sys.argv[1:])
