"""Reads an image whole through `skopeo experimental-image-proxy`, as rpm-ostree does, and compares every digest.

Prints one line of JSON: the digest of the manifest, and the bytes of the layers. Ends with 1 and the proxy's words if it is refused.
Source: skopeo, cmd/skopeo/proxy.go: JSON over a seqpacket socket, data in pipes, of which the end comes only after FinishPipe.

usage: image-proxy.py IMAGE
"""

import array
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading

ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
proxy = subprocess.Popen(["skopeo", "experimental-image-proxy"], stdin=theirs)
theirs.close()


def call(method, *args):
    ours.send(json.dumps({"method": method, "args": args}).encode())
    size = array.array("i").itemsize
    message, ancillary, _, _ = ours.recvmsg(65536, socket.CMSG_SPACE(size))
    if not message:
        sys.exit("the proxy has ended")
    answer = json.loads(message)
    if not answer["success"]:
        sys.exit(f"{method}: {answer['error']}")
    pipes = array.array("i")
    for _, _, data in ancillary:
        pipes.frombytes(data[:size])
    return answer["value"], answer["pipeid"], (pipes[0] if pipes else None)


def read(method, *args):
    value, pipe, descriptor = call(method, *args)
    digest, parts, length = hashlib.sha256(), [], 0

    def drain():
        nonlocal length
        with os.fdopen(descriptor, "rb") as data:
            while piece := data.read(1024 * 1024):
                digest.update(piece)
                length += len(piece)
                if method != "GetBlob":
                    parts.append(piece)

    reader = threading.Thread(target=drain)
    reader.start()
    call("FinishPipe", pipe)
    reader.join()
    return value, "sha256:" + digest.hexdigest(), length, b"".join(parts)


call("Initialize")
image, _, _ = call("OpenImage", "docker://" + sys.argv[1])
top, _, _, text = read("GetManifest", image)
manifest = json.loads(text)
config = json.loads(read("GetFullConfig", image)[3])
total = 0
for layer in manifest["layers"]:
    _, found, length, _ = read("GetBlob", image, layer["digest"], layer["size"])
    if found != layer["digest"] or length != layer["size"]:
        sys.exit(f"{layer['digest']}: got {length} bytes with {found}")
    total += length
call("CloseImage", image)
ours.close()
proxy.wait()
print(json.dumps({"manifest": top, "layers": len(manifest["layers"]), "bytes": total, "labels": config["config"].get("Labels")}))
