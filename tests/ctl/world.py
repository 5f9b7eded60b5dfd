# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of licensevaultctl stand on: a private bus with one service, and checks."""

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import termios
import time

CTL, DAEMON, FAKE, REFUSE = (os.path.abspath(path) for path in sys.argv[1:5])
TIMEOUT = 60

BUS_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>custom</type>
  <listen>unix:path={path}</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
    <allow own="*"/>
    <allow user="*"/>
  </policy>
</busconfig>
"""

LCP = {
    "provider": "https://provider.example.com",
    "id": "{id}",
    "issued": "2024-03-01T10:00:00Z",
    "updated": "2024-03-02T10:00:00Z",
    "encryption": {
        "profile": "http://readium.org/lcp/basic-profile",
        "content_key": {"algorithm": "http://www.w3.org/2001/04/xmlenc#aes256-cbc",
                        "encrypted_value": "AAAA"},
        "user_key": {"algorithm": "http://www.w3.org/2001/04/xmlenc#sha256", "text_hint": "?",
                     "key_check": "AAAA"},
    },
    "links": [
        {"rel": "hint", "href": "https://provider.example.com/hint", "type": "text/html"},
        {"rel": "publication", "href": "https://provider.example.com/b.epub", "type": "application/epub+zip",
         "title": "Moby Dick"},
    ],
    "user": {"id": "u"},
    "rights": {"print": 10, "copy": 2048, "start": "2024-03-01T10:00:00Z", "end": "2031-05-06T12:00:00Z"},
    "signature": {"algorithm": "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256", "certificate": "AAAA",
                  "value": "AAAA"},
}


class World:
    """A private bus with one service on it, and a folder to work in."""

    def __init__(self, folder):
        self.folder = folder
        self.service = None
        self.bus = None
        self.environment = dict(os.environ, LC_ALL="C.UTF-8", TERM="xterm", TZ="UTC",
                                DBUS_SYSTEM_BUS_ADDRESS=f"unix:path={folder}/bus")
        os.mkdir(self.path("work"))

    def path(self, name):
        return os.path.join(self.folder, name)

    def work(self, name=""):
        return os.path.join(self.folder, "work", name)

    def start_bus(self):
        with open(self.path("bus.conf"), "w") as config:
            config.write(BUS_CONFIG.format(path=self.path("bus")))
        self.bus = subprocess.Popen(["dbus-daemon", "--config-file", self.path("bus.conf"), "--nofork",
                                     "--nopidfile", "--nosyslog"], stdin=subprocess.DEVNULL)
        wait_until(lambda: os.path.exists(self.path("bus")), "the bus did not start")

    def start(self, *command):
        environment = dict(self.environment)
        for name, folder in (("STATE_DIRECTORY", "state"), ("RUNTIME_DIRECTORY", "run"),
                             ("CONFIGURATION_DIRECTORY", "etc")):
            environment[name] = self.path(folder)
            os.makedirs(self.path(folder), mode=0o700, exist_ok=True)
        self.service = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
        wait_until(self.has_owner, "the service did not start")

    def has_owner(self):
        answer = subprocess.run(["dbus-send", f"--bus={self.environment['DBUS_SYSTEM_BUS_ADDRESS']}",
                                 "--print-reply=literal", "--dest=org.freedesktop.DBus",
                                 "/org/freedesktop/DBus", "org.freedesktop.DBus.NameHasOwner",
                                 "string:org.licensevault1"],
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return "true" in answer.stdout

    def stop(self):
        for process in (self.service, self.bus):
            if process:
                process.terminate()
                process.wait(TIMEOUT)

    def popen(self, *arguments, prefix=(), **options):
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        options.setdefault("cwd", self.work())
        return subprocess.Popen([*prefix, CTL, *arguments], env=self.environment, **options)

    def run(self, *arguments, expect=0, text=True, data=None, **options):
        if data is not None:
            options["stdin"] = subprocess.PIPE
        process = self.popen(*arguments, **options)
        try:
            out, err = process.communicate(data, timeout=TIMEOUT)
        finally:
            process.kill()  # nothing where it has ended
        result = Result(process.returncode, out, (err or b"").decode())
        if text and out is not None:
            result.out = out.decode()
        if expect is not None:
            equal(result.code, expect, f"exit code of {arguments}: {result.err}")
        return result

    def run_terminal(self, *arguments, columns=80, stdout=False, expect=0, during=None):
        """Runs with stderr, or stdout too, on a terminal; answers what it showed."""
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = self.popen(*arguments, stderr=follower, stdout=follower if stdout else subprocess.DEVNULL)
        os.close(follower)
        shown = b""
        while True:
            ready, _, _ = select.select([leader], [], [], TIMEOUT)
            check(ready, f"{arguments} showed nothing for long, and did not end")
            try:
                piece = os.read(leader, 65536)
            except OSError:  # EIO: nobody has the other end any more
                break
            if not piece:
                break
            shown += piece
            if during:
                during(process, shown)
        os.close(leader)
        equal(process.wait(TIMEOUT), expect, f"exit code of {arguments}: {shown}")
        return shown.decode()

    def add(self, name, content=b"a license"):
        with open(self.work(name), "wb") as file:
            file.write(content)
        return self.run("add", "--id", name, name)


class Result:
    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def equal(actual, expected, message=""):
    check(actual == expected, f"{actual!r} is not {expected!r}. {message}")


def contains(text, part):
    check(part in text, f"{part!r} is not in {text!r}")


def wait_until(condition, message):
    end = time.monotonic() + TIMEOUT
    while not condition():
        check(time.monotonic() < end, message)
        time.sleep(0.02)


def lcp(license_id, **changes):
    return json.dumps(dict(LCP, id=license_id, **changes)).encode()


def members(archive):
    with tarfile.open(archive) as tar:
        return [member.name for member in tar]


def has_control(text):
    return re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)


def only_files(world, *names):
    equal(sorted(os.listdir(world.work())), sorted(names), "files in the folder")


@contextlib.contextmanager
def new_world(kind):
    folder = tempfile.mkdtemp(prefix="test-ctl-")
    world = World(folder)
    try:
        if kind != "bare":
            world.start_bus()
        if kind.startswith("fake"):
            world.start(FAKE, kind.split("_")[1])
        elif kind == "real":
            world.start(DAEMON)
        yield world
    finally:
        world.stop()
        shutil.rmtree(folder)
