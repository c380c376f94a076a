#!/usr/bin/python3 -IS
"""bamikube-cni: hands a CNI call to the resident bamikube-network agent and prints its answer.

This file is installed as it is, as an executable, and imports nothing but sys and os, and _socket underneath socket:
an interpreter without its site packages starts in about ten milliseconds, and a pod pays that price on every start.
All the work (addresses, links, host ports) happens in the agent, which has everything loaded.

Protocol: environment variables ``NAME=value`` separated by NUL, an empty one, then standard input, then end of stream.
Answer: one digit, the exit status, then what to print.
"""

import os
import sys
from _socket import AF_UNIX, SHUT_WR, SOCK_STREAM, socket

SOCKET = "/run/bamikube/network.sock"
VERSIONS = '{"cniVersion":"1.0.0","supportedVersions":["0.3.0","0.3.1","0.4.0","1.0.0"]}'
PASSED = ("CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH")


def main() -> int:
    """One call; the exit status."""
    if os.environ.get("CNI_COMMAND") == "VERSION":
        print(VERSIONS)
        return 0
    given = [name + "=" + os.environ.get(name, "") for name in PASSED]
    given.append("PLUGIN=" + os.path.basename(sys.argv[0]))
    request = "\0".join(given).encode() + b"\0\0" + sys.stdin.buffer.read()
    connection = socket(AF_UNIX, SOCK_STREAM)
    try:
        connection.settimeout(60)
        connection.connect(SOCKET)
        connection.sendall(request)
        connection.shutdown(SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    except OSError as error:
        answer = b""
        reason = str(error).replace('"', "'")
    else:
        reason = "it closed the connection without an answer"
    if not answer:
        print(
            '{"cniVersion":"1.0.0","code":11,"msg":"the bamikube-network agent does not answer on '
            + SOCKET
            + '","details":"'
            + reason
            + '; is bamikube-network running on this node?"}'
        )
        return 1
    sys.stdout.buffer.write(answer[1:])
    sys.stdout.buffer.flush()
    return answer[0] - 48


if __name__ == "__main__":
    sys.exit(main())
