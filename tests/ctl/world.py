# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of licensevaultctl stand on: a private bus with one service, and checks."""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import pty
import pwd
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import tempfile
import termios
import time
import traceback

CTL, DAEMON, FAKE, REFUSE = (os.path.abspath(path) for path in sys.argv[1:5])
ONLY = sys.argv[5:]
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

HOSTILE = "\x1b]0;owned\x07\x1b[2J\u009b31m\u202eevil"

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
        # No colors and no pager but where a test is about them.
        self.environment = dict(os.environ, LC_ALL="C.UTF-8", TERM="xterm", TZ="UTC", NO_COLOR="1",
                                LICENSEVAULT_PAGER="cat",
                                DBUS_SYSTEM_BUS_ADDRESS=f"unix:path={folder}/bus")
        os.mkdir(self.path("work"))

    def path(self, name):
        return os.path.join(self.folder, name)

    def work(self, name=""):
        return os.path.join(self.folder, "work", name)

    def start_bus(self, prefix=()):
        with open(self.path("bus.conf"), "w") as config:
            config.write(BUS_CONFIG.format(path=self.path("bus")))
        self.bus = subprocess.Popen([*prefix, "dbus-daemon", "--config-file", self.path("bus.conf"), "--nofork",
                                     "--nopidfile", "--nosyslog"], stdin=subprocess.DEVNULL)
        wait_until(self.bus_listens, "the bus did not start")

    def bus_listens(self):
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(self.path("bus")) == 0

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

    def run_terminal(self, *arguments, columns=80, stdout=False, expect=0, during=None, keys=None, **options):
        """Runs with stderr, or stdout too, on a terminal; answers what it showed. With keys, stdin is one, too."""
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        if keys is not None:
            options["stdin"] = follower
            os.write(leader, keys)
        process = self.popen(*arguments, stderr=follower, stdout=follower if stdout else subprocess.DEVNULL,
                             **options)
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


    def licenses(self):
        """All that the service says of all licenses, and their documents."""
        listed = [json.loads(line) for line in self.run("list", "--json").out.splitlines()]
        return [(license, self.run("get", license["LicenseId"], text=False).out) for license in listed]

    def write(self, name, content):
        with open(self.work(name), "wb") as file:
            file.write(content)

    def read(self, name):
        with open(self.work(name), "rb") as file:
            return file.read()

    def stop_service(self):
        self.service.terminate()
        self.service.wait(TIMEOUT)


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


def proof(archive):
    """What END.json has to say of the entries before it."""
    digest = hashlib.blake2b(digest_size=32)
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.name == "END.json":
                return digest.hexdigest()
            content = hashlib.blake2b(tar.extractfile(member).read(), digest_size=32).hexdigest()
            digest.update(f"{member.name}\n{member.size}\n{content}\n".encode())
            prefix = "SCHILY.xattr."
            for name, value in sorted(member.pax_headers.items()):
                if name.startswith(prefix):
                    digest.update(f"{name[len(prefix):]}={value}\n".encode())


def rebuild_backup(archive, replace):
    """Writes a backup anew with other contents, by path, and proves it, as its owner could."""
    def write(entries):
        with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
            for member, content in entries:
                member.size = len(content)
                if "SCHILY.xattr.user.licensevault.blake2b" in member.pax_headers:
                    digest = hashlib.blake2b(content, digest_size=32).hexdigest()
                    member.pax_headers["SCHILY.xattr.user.licensevault.blake2b"] = digest
                tar.addfile(member, io.BytesIO(content))

    with tarfile.open(archive) as tar:
        entries = [(member, replace.get(member.name, tar.extractfile(member).read())) for member in tar]
    check(set(replace) <= {member.name for member, _ in entries}, f"{list(replace)} is not all there")
    before = json.loads(entries[-1][1])["blake2b"].encode()
    write(entries)
    entries[-1] = (entries[-1][0], entries[-1][1].replace(before, proof(archive).encode()))
    write(entries)


def edit_backup(archive, old, new):
    """Replaces what is as long in a backup, and proves it anew, as its owner could."""
    with open(archive, "rb") as file:
        content = file.read()
    equal((content.count(old), len(old)), (1, len(new)))
    before = proof(archive).encode()
    equal(content.count(before), 1)
    with open(archive, "wb") as file:
        file.write(content.replace(old, new))
    after = proof(archive).encode()
    with open(archive, "wb") as file:
        file.write(content.replace(old, new).replace(before, after))


def make_old(archive):
    """Has a backup say that it was made in 2024."""
    with open(archive, "rb") as file:
        created = re.search(rb'"created": *"\d{4}', file.read()).group(0)
    edit_backup(archive, created, created[:-4] + b"2024")


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


def add_some(world):
    """A book, a license of an app, one that may not be backed up, a revoked one, a deleted one."""
    world.write("book.lcpl", lcp("book"))
    world.run("add", "book.lcpl")
    world.write("app", b"\x00app\xff" * 100)
    world.run("add", "--id", "app", "--title", "Ein Lied\t" + HOSTILE, "--key-id", "k", "app")
    world.run("add", "--id", "mine", "--title", "Mine alone", "--no-backup", "app")
    world.add("revoked")
    world.run("revoke", "revoked")
    world.add("deleted")
    world.run("remove", "deleted")


def make_backup(world, name="x.tar"):
    world.run("backup", "--output", name)
    return world.read(name)


def damages(backup):
    """A backup cut off, and with one byte changed: in a document, an attribute, a count, a padding, the proof."""
    end = backup.index(b"END.json")
    yield "cut", backup[:end * 2 // 3]
    yield "no end", backup[:end]
    for name, part in (("document", b"\x00app\xff"), ("attribute", b"user.licensevault.title=Moby"),
                       ("manifest", b'"licenses"'), ("proof", b'"blake2b"')):
        at = backup.rindex(part) + len(part) - 1
        yield name, backup[:at] + bytes([backup[at] ^ 1]) + backup[at + 1:]
    yield "more", backup + b"x" * 512


def need_root():
    if os.geteuid() != 0:
        raise Skip("others' licenses are for root")


def add_of_other(world):
    """A license of somebody else, and who that is."""
    other = next(user for user in pwd.getpwall() if 0 < user.pw_uid < 61184)
    os.chmod(world.folder, 0o755)
    world.write("theirs", b"a license")
    os.chmod(world.work("theirs"), 0o644)
    world.run("add", "--id", "theirs", "theirs", prefix=["setpriv", "--reuid", str(other.pw_uid), "--regid",
                                                         str(other.pw_gid), "--clear-groups"])
    return other


def kind_of(name):
    kind = name.split("_")[0]
    return "_".join(name.split("_")[:2]) if kind == "fake" else kind


class Skip(Exception):
    """What a test needs is not here."""


def run_test(name, function):
    if kind_of(name) == "real" and not os.path.exists(DAEMON):
        raise Skip(f"there is no {DAEMON}")
    with new_world(kind_of(name)) as world:
        function(world)


def run_tests(functions):
    """Runs those that are named like tests; answers the exit code."""
    tests = [(name, function) for name, function in functions.items()
             if name.split("_")[0] in ("bare", "alone", "fake", "real") and callable(function)
             and (not ONLY or name in ONLY)]
    failed = 0
    # A script's background job begins without SIGINT, below nohup without SIGHUP, and all that it starts would, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

    os.umask(0o022)
    print(f"1..{len(tests)}", flush=True)
    for number, (name, function) in enumerate(tests, 1):
        try:
            run_test(name, function)
            print(f"ok {number} {name}", flush=True)
        except Skip as reason:
            print(f"ok {number} {name} # SKIP {reason}", flush=True)
        except Exception:
            failed += 1
            print(f"not ok {number} {name}", flush=True)
            print("".join(f"# {line}\n" for line in traceback.format_exc().splitlines()), end="", flush=True)
    return failed > 0
