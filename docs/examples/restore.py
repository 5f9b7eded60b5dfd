#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""
Restores a backup of licenses from a file, with Gio (the package python3-gi). Where it is from another machine or
another user, it asks first.

    ./restore.py BACKUP

It ends with 0 when the licenses are restored, 1 when something was refused or failed, 2 when it was called wrongly, 3
when the service is not there or went away (try again), and 4 when it was canceled or not
agreed to.

backup.py follows its job by signals. This one waits for the job's end, and hears one signal: whose the backup is.
"""

import os
import signal
import sys

from gi.repository import Gio, GLib

NAME = "org.licensevault1"
ROOT = "/org/licensevault1"
CONSENT = 2  # WM_RESTORE_INDIVIDUALIZE
FROM_ELSEWHERE = 25  # the Progress that says whose the backup is
NO_LIMIT = GLib.MAXINT  # A restore takes its time.
DONE, FAILED, USAGE, GONE, CANCELED = range(5)


class Restore:
    def __init__(self, fd):
        self.bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
        self.bus.set_exit_on_close(False)
        self.loop = GLib.MainLoop()
        self.fd = fd
        self.job = None
        self.answer = None
        self.origin = None  # such as "anna on laptop"
        self.interrupted = False
        # The bus starts the service if need be. What follows goes to its unique name: if it is started anew in the
        # middle, the bus says that this one is gone, where the new one would not know the job.
        self.call(NAME, ROOT, "org.freedesktop.DBus.Peer", "Ping", None, "()")
        self.service, = self.call("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus",
                                  "GetNameOwner", GLib.Variant("(s)", (NAME,)), "(s)")
        # Anyone can send us such a signal: with the unique name as the sender, GDBus lets nobody else's through.
        self.bus.signal_subscribe(self.service, NAME + ".Job", "Progress", None, None,
                                  Gio.DBusSignalFlags.NO_MATCH_RULE, self.on_progress)

    def call(self, service, path, interface, method, arguments, answer, descriptors=None):
        reply, _ = self.bus.call_with_unix_fd_list_sync(service, path, interface, method, arguments,
                                                        GLib.VariantType(answer), Gio.DBusCallFlags.NONE, -1,
                                                        descriptors)
        return reply.unpack()

    def run(self, flags):
        """Answers the hresult, the error's name, its message and the result of a restore."""
        # The service reads from where the descriptor stands, and both of us move that.
        os.lseek(self.fd, 0, os.SEEK_SET)
        signal.signal(signal.SIGINT, self.on_interrupt)
        descriptors = Gio.UnixFDList()
        index = descriptors.append(self.fd)
        self.job, = self.call(self.service, ROOT, NAME + ".LicenseRestore", "RestoreLicensesFromFile",
                              GLib.Variant("(hua{sv})", (index, flags, {})), "(o)", descriptors)
        if self.interrupted:
            self.cancel()
        self.bus.call(self.service, self.job, NAME + ".Job", "Wait", None, GLib.VariantType("(issa{sv})"),
                      Gio.DBusCallFlags.NONE, NO_LIMIT, None, self.on_answer)
        self.loop.run()
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # At a question, Ctrl-C ends the program.
        self.job = None
        return self.bus.call_finish(self.answer).unpack()

    def on_progress(self, bus, sender, path, interface, member, arguments):
        if path == self.job and arguments.get_type_string() == "(uittv)":
            status, _, _, _, value = arguments.unpack()
            if status == FROM_ELSEWHERE:
                self.origin = value

    def on_answer(self, bus, answer):
        self.answer = answer
        self.loop.quit()

    def on_interrupt(self, number, frame):
        self.interrupted = True
        if self.job:
            self.cancel()

    def cancel(self):
        """Asks; what became of the job shows in the answer to Wait. A restore is done as a whole or not at all."""
        self.bus.call(self.service, self.job, NAME + ".Job", "Cancel", None, None, Gio.DBusCallFlags.NONE, -1)


def agrees(origin):
    # It is what the backup says, and a backup comes from anywhere: it must not steer the terminal.
    origin = "".join(c if c.isprintable() else "?" for c in origin)
    print(f"This backup is from {origin}. Bring its licenses over? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def main():
    if len(sys.argv) != 2:
        print("Usage: restore.py BACKUP", file=sys.stderr)
        return USAGE
    fd = os.open(sys.argv[1], os.O_RDONLY | os.O_CLOEXEC)
    restore = Restore(fd)
    hresult, error, message, result = restore.run(0)
    if error == NAME + ".Error.NS_E_DRM_NEEDS_INDIVIDUALIZATION":
        # Nothing was restored yet, and nothing is without a yes.
        if not agrees(restore.origin or "another machine or user"):
            return CANCELED
        hresult, error, message, result = restore.run(CONSENT)

    if hresult < 0:
        print(f"restore.py: {message}", file=sys.stderr)
        return CANCELED if error == NAME + ".Error.NS_E_DRM_OPERATION_CANCELED" else FAILED
    print(f"Restored {result['restored']} licenses. {result['unchanged']} were here already, {result['newer_kept']} "
          f"are newer here, {result['conflicts']} differ and stay as they are here, {result['revoked']} were revoked.")
    return DONE


try:
    sys.exit(main())
except OSError as error:
    print(f"restore.py: {error.filename or sys.argv[1]}: {error.strerror}", file=sys.stderr)
    sys.exit(FAILED)
except GLib.Error as error:
    # Without a name of the service's own the service, or the bus, was not there, or went away.
    name = Gio.DBusError.get_remote_error(error) or ""
    if name.startswith((NAME + ".Error.", "org.freedesktop.DBus.Error.InvalidArgs",
                        "org.freedesktop.DBus.Error.AccessDenied", "org.freedesktop.DBus.Error.LimitsExceeded",
                        "org.freedesktop.DBus.Error.NoMemory")):
        print(f"restore.py: {error.message.partition(name + ': ')[2]}", file=sys.stderr)
        sys.exit(FAILED)
    print(f"restore.py: The license service is not there, or went away: {error.message}", file=sys.stderr)
    sys.exit(GONE)
