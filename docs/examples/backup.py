#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Stores a license, then backs up all licenses of the user to a file, with Gio (the package python3-gi).

    ./backup.py [--replace] LICENSE BACKUP

Without --replace a backup that is there stays. With it, it does until the new one is complete, and then is no more.

It ends with 0 when the backup is complete and verified, 1 when something was refused or failed, 2 when it was called
wrongly, 3 when the service is not there or went away (try again), and 4 when it was canceled.
"""

import os
import signal
import sys
import tempfile

from gi.repository import Gio, GLib

NAME = "org.licensevault1"
ROOT = "/org/licensevault1"
DONE, FAILED, USAGE, GONE, CANCELED = range(5)
BEGIN, PERCENT = 21, 16  # what a Progress tells; others are passed over

BUS_ERROR = "org.freedesktop.DBus.Error."
NOT_THERE = (BUS_ERROR + "ServiceUnknown", BUS_ERROR + "NameHasNoOwner", BUS_ERROR + "NoReply",
             BUS_ERROR + "Disconnected", BUS_ERROR + "Timeout", BUS_ERROR + "Spawn.", "org.freedesktop.systemd1.")


class Failure(Exception):
    """Ends the program with a status, and a sentence for a person."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def named_failure(name, message):
    """The name of an error is for programs, its message for people: it says what failed and what to do next."""
    if name.startswith(NOT_THERE):
        return Failure(GONE, f"The license service is not there, or went away: {message}")
    if name == NAME + ".Error.NS_E_DRM_OPERATION_CANCELED":
        return Failure(CANCELED, message)
    return Failure(FAILED, message)


def printable(title):
    """A title comes from a document, and a document from anywhere: it must not steer the terminal."""
    return "".join(c if c.isprintable() else "?" for c in title)


class Backup:
    def __init__(self):
        try:
            self.bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
        except GLib.Error as error:
            raise Failure(GONE, f"Cannot connect to the system bus: {error.message}") from error
        # Otherwise GLib ends the program by SIGTERM where the bus is lost, whatever it was about.
        self.bus.set_exit_on_close(False)
        self.loop = GLib.MainLoop()
        self.service = None  # the unique name of who answered us: nobody else is believed
        self.job = None
        self.result = None   # of the job
        self.failure = None  # why it did not succeed
        self.ended = False
        self.interrupted = False

    def call(self, service, path, interface, method, arguments, answer, descriptors=None):
        try:
            reply, _ = self.bus.call_with_unix_fd_list_sync(
                service, path, interface, method, arguments, GLib.VariantType(answer), Gio.DBusCallFlags.NONE, -1,
                descriptors)
            return reply.unpack()
        except GLib.Error as error:
            # GLib puts the name before the message: it is read, and taken off again. Without a name no answer came.
            name = Gio.DBusError.get_remote_error(error)
            if name is None:
                raise Failure(GONE, f"The license service cannot be reached: {error.message}") from error
            raise named_failure(name, error.message.partition(name + ": ")[2]) from error

    def store(self, document):
        """Stores the document. The bus starts the service if need be."""
        # An LCP license says all this of itself; a license that only the app can read needs an id at least.
        properties = {"LicenseId": GLib.Variant("s", "org.example.Editor"),
                      "Title": GLib.Variant("s", "Example Editor")}
        license_id, = self.call(NAME, ROOT, NAME + ".LicenseStore", "StoreLicense",
                                GLib.Variant("(aya{sv})", (document, properties)), "(s)")
        print(f"Stored the license {license_id}.", flush=True)

        # From here on we speak with this one, by its unique name, which the bus never gives to anyone else.
        self.service, = self.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                                  "GetNameOwner", GLib.Variant("(s)", (NAME,)), "(s)")

    def back_up(self, fd):
        """
        Starts the job, and stays with it to its end. Everything that listens is there before the job is: GDBus throws
        away a signal that nobody has asked for when it comes.

        Signals of a job are unicast, so no match rule is needed; and anyone can send such a signal. With the unique
        name as the sender GDBus lets nothing else through. With None everything gets through; so it does with NAME in
        an old GLib (CVE-2024-34397).
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.on_interrupt)
        self.bus.connect("closed", self.on_closed)
        self.bus.signal_subscribe("org.freedesktop.DBus", "org.freedesktop.DBus", "NameOwnerChanged",
                                  "/org/freedesktop/DBus", NAME, Gio.DBusSignalFlags.NONE, self.on_owner_changed)
        self.bus.signal_subscribe(self.service, NAME + ".Job", None, None, None,
                                  Gio.DBusSignalFlags.NO_MATCH_RULE, self.on_job_signal)

        descriptors = Gio.UnixFDList()
        index = descriptors.append(fd)
        # To the unique name: had the service been started anew meanwhile, the bus would say so.
        self.job, = self.call(self.service, ROOT, NAME + ".LicenseBackup", "BackupLicensesToFile",
                              GLib.Variant("(hua{sv})", (index, 0, {})), "(o)", descriptors)
        if self.interrupted:
            self.cancel()
        self.loop.run()
        if self.failure:
            raise self.failure

    def end(self, failure):
        """The first to say how it ended is right: a service that is stopped says Done, and then leaves the bus."""
        if not self.ended:
            self.ended = True
            self.failure = failure
            self.loop.quit()

    def on_job_signal(self, bus, sender, path, interface, member, arguments):
        # Another job of ours, perhaps: the signals of all come here.
        if path != self.job or self.ended:
            return
        if member == "Done" and arguments.get_type_string() == "(uissa{sv})":
            _, hresult, error, message, result = arguments.unpack()
            self.result = result
            self.end(named_failure(error, message) if hresult < 0 else None)
        elif member == "Progress" and arguments.get_type_string() == "(uittv)":
            status, _, _, total, value = arguments.unpack()
            if status == BEGIN:
                print(f"Backing up {total} licenses", flush=True)
            elif status == PERCENT:
                print(f"{value} %", flush=True)

    def on_owner_changed(self, bus, sender, path, interface, member, arguments):
        """A job dies with its service: no Done will come."""
        _, old_owner, _ = arguments.unpack()
        if old_owner == self.service:
            self.end(Failure(GONE, "The license service went away before the backup was done. "
                                   "The licenses are as they were; try again."))

    def on_closed(self, bus, by_peer, error):
        self.end(Failure(GONE, "The connection to the system bus was lost; try again."))

    def on_interrupt(self, number, frame):
        if self.interrupted:
            self.end(Failure(CANCELED, "Left before the backup was done."))
            return
        self.interrupted = True
        print("Canceling. Press Ctrl-C again to leave at once.", file=sys.stderr)
        if self.job:
            self.cancel()

    def cancel(self):
        """Asks; what became of the job shows in Done."""
        self.bus.call(self.service, self.job, NAME + ".Job", "Cancel", None, None, Gio.DBusCallFlags.NONE, -1)

    def restricted(self):
        """Yields titles. The job keeps them for a minute."""
        offset = 0
        while True:
            licenses, = self.call(self.service, self.job, NAME + ".Job", "ListRestricted",
                                  GLib.Variant("(uu)", (offset, 0)), "(a(sss))")
            if not licenses:
                return
            for license_id, _, title in licenses:
                yield title or license_id
            offset += len(licenses)


def open_target(file):
    """A new file, or one that is there. Of those the service takes an empty one or a pipe: nothing is overwritten."""
    try:
        return os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), True
    except FileExistsError:
        return os.open(file, os.O_RDWR | os.O_CLOEXEC), False


def sync_folder(file):
    """The service has synced the file's content. Its name is in the folder, which is ours."""
    try:
        fd = os.open(os.path.dirname(file) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError:
        pass  # Some file systems, such as Flatpak's document portal, cannot: then there is no more to do.


def back_up_to(backup, file, replace):
    if replace:
        # A new file beside it, which takes its place once it is verified: the old backup is never at risk.
        fd, name = tempfile.mkstemp(dir=os.path.dirname(file) or ".")
        created = True
    else:
        fd, created = open_target(file)
        name = file
    try:
        backup.back_up(fd)
        if replace:
            os.rename(name, file)
    except BaseException:
        if created:
            os.unlink(name)  # What is in it is no backup.
        raise
    finally:
        os.close(fd)
    if created:
        sync_folder(file)

    result = backup.result
    print(f"Backed up {result['licenses']} licenses to {file} ({result['bytes']} bytes), read back and verified.")
    if result["restricted"] > 0:
        print(f"May not be backed up (ask who issued them for new ones): {result['restricted']}")
        try:
            for title in backup.restricted():
                print("  " + printable(title))
        except Failure:
            print("  NOT-BACKED-UP.txt in the backup names them.")


def main():
    replace = sys.argv[1:2] == ["--replace"]
    arguments = sys.argv[2 if replace else 1:]
    if len(arguments) != 2:
        raise Failure(USAGE, "Usage: backup.py [--replace] LICENSE BACKUP")
    with open(arguments[0], "rb") as file:
        document = file.read()
    backup = Backup()
    backup.store(document)
    back_up_to(backup, arguments[1], replace)


try:
    main()
except Failure as failure:
    print(f"backup.py: {failure}", file=sys.stderr)
    sys.exit(failure.status)
except OSError as error:
    print(f"backup.py: {error.filename}: {error.strerror}", file=sys.stderr)
    sys.exit(FAILED)
