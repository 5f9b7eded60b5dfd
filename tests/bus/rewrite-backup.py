#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes another backup of a backup: what a test of bad input wants, and otherwise byte for byte the same.

rewrite-backup.py FROM TO [OPERATION ARGUMENT...]...

An entry is named by its path, or by id:ID for the document of a license. Digests and counts are made right
again after the operations, unless stale-… leaves them as they were: so a test shows what it is about.
"""
import fnmatch
import hashlib
import json
import os
import re
import sys

BLOCK = 512
OURS = b"user.licensevault."
XATTR = b"SCHILY.xattr."


def digest(data):
    return hashlib.blake2b(data, digest_size=32).hexdigest().encode()


class Entry:
    def __init__(self, header, records, content):
        self.header, self.content = header, content
        self.path = bytes(header[:100]).rstrip(b"\0")
        self.kind, self.target = bytes(header[156:157]), b""
        self.attributes, self.more, self.size = {}, [], None
        for key, value in records:
            if key == b"path":
                self.path = value
            else:
                self.attributes[key.removeprefix(XATTR)] = value

    def copy(self, path=None, content=None):
        other = Entry(self.header, [], self.content if content is None else content)
        other.path = path or self.path
        other.attributes = dict(self.attributes) if path is None else {}
        return other

    def is_document(self):
        return self.path.startswith(b"licenses/")


def read_records(data):
    while data:
        length, rest = data.split(b" ", 1)
        key, value = rest[: int(length) - len(length) - 2].split(b"=", 1)
        yield key, value
        data = data[int(length):]


def read(data):
    at, records = 0, []
    while data[at:at + BLOCK].strip(b"\0"):
        header = data[at:at + BLOCK]
        size = int(header[124:135], 8)
        content = data[at + BLOCK:at + BLOCK + size]
        at += BLOCK + size + -size % BLOCK
        if header[156:157] == b"x":
            records = list(read_records(content))
        else:
            yield Entry(header, records, content)
            records = []


def with_checksum(header):
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def block_of(header, name, kind, size, target=b""):
    header = bytearray(header)
    header[0:100] = re.sub(rb"[^ -~]", b"_", name)[:100].ljust(100, b"\0")
    header[156:157] = kind
    header[157:257] = target.ljust(100, b"\0")
    if size < 8 ** 11:
        header[124:136] = b"%011o\0" % size
    else:
        header[124:136] = (1 << 95 | size).to_bytes(12, "big")
    return with_checksum(header)


def padded(data):
    return data + b"\0" * (-len(data) % BLOCK)


def record(key, value):
    rest = len(key) + len(value) + 3
    length = rest
    while length != rest + len(str(length)):
        length = rest + len(str(length))
    return b"%d %s=%s\n" % (length, key, value)


def write(entry):
    records = [record(key, value) for key, value in entry.more]
    records += [record(XATTR + name, entry.attributes[name]) for name in sorted(entry.attributes)]
    if len(entry.path) > 100 or re.search(rb"[^ -~]", entry.path):
        records.append(record(b"path", entry.path))
    data = b"".join(records)
    size = len(entry.content) if entry.size is None else entry.size
    result = block_of(entry.header, b"PaxHeaders/" + entry.path, b"x", len(data)) + padded(data) if data else b""
    return result + block_of(entry.header, entry.path, entry.kind, size, entry.target) + padded(entry.content)


def set_json(entry, keys, value):
    """Changes a member, or removes it (value None), and leaves the text as it was where that is no change."""
    root = json.loads(entry.content)
    parent = root
    *parents, last = keys.split(".")
    for key in parents:
        parent = parent[key]
    if value is None:
        del parent[last]
    elif last in parent and parent[last] == value:
        return
    else:
        parent[last] = value
    entry.content = (json.dumps(root, indent=2) + "\n").encode()


class Rewriter:
    def __init__(self, entries):
        self.entries, self.stale, self.before, self.after = entries, set(), b"", b""

    def find(self, name):
        for entry in self.entries:
            if name.startswith(b"id:"):
                if entry.attributes.get(OURS + b"id") == name[3:]:
                    return entry
            elif fnmatch.fnmatchcase(entry.path, name):
                return entry
        sys.exit(f"There is no entry {name!r}")

    def drop(self, name):
        self.entries.remove(self.find(name))

    def rename(self, name, path):
        self.find(name).path = path

    def rename_user(self, name, other):
        """Of a backup of all users, everywhere."""
        for entry in self.entries:
            entry.path = entry.path.replace(b"licenses/%s/" % name, b"licenses/%s/" % other)
            if entry.attributes.get(OURS + b"owner") == name:
                entry.attributes[OURS + b"owner"] = other
        self.replace(b"state.jsonl", b'"owner":"%s"' % name, b'"owner":"%s"' % other)

    def double(self, name):
        entry = self.find(name)
        self.entries.insert(self.entries.index(entry) + 1, entry.copy())

    def swap(self, name, other):
        a, b = (self.entries.index(self.find(n)) for n in (name, other))
        self.entries[a], self.entries[b] = self.entries[b], self.entries[a]

    def add(self, name, path, content):
        entry = self.find(name)
        self.entries.insert(self.entries.index(entry) + 1, entry.copy(path, content))

    def content(self, name, content):
        self.find(name).content = content

    def append(self, name, content):
        self.find(name).content += content

    def replace(self, name, old, new):
        entry = self.find(name)
        if old not in entry.content:
            sys.exit(f"{name!r} has no {old!r}")
        entry.content = entry.content.replace(old, new)

    def drop_line(self, name, part):
        entry = self.find(name)
        entry.content = b"".join(line for line in entry.content.splitlines(True) if part not in line)

    def double_line(self, name, part):
        entry = self.find(name)
        entry.content = b"".join(line * (2 if part in line else 1) for line in entry.content.splitlines(True))

    def repeat(self, name, count):
        self.find(name).content *= int(count)

    def set(self, name, attribute, value):
        self.find(name).attributes[OURS + attribute] = value

    def set_bytes(self, name, attribute, value):
        self.set(name, attribute, bytes.fromhex(value.decode()))

    def unset(self, name, attribute):
        del self.find(name).attributes[OURS + attribute]

    def json(self, name, keys, value):
        set_json(self.find(name), keys.decode(), json.loads(value))

    def no_json(self, name, keys):
        set_json(self.find(name), keys.decode(), None)

    def kind(self, name, kind, target):
        entry = self.find(name)
        entry.kind, entry.target = kind, target

    def record(self, name, key, value):
        self.find(name).more.append((key, value))

    def size(self, name, size):
        self.find(name).size = int(size)

    def global_header(self, key, value):
        data = record(key, value)
        self.before += block_of(self.entries[0].header, b"GlobalHead", b"g", len(data)) + padded(data)

    def trailer(self, text):
        self.after += text

    def stale_digests(self):
        self.stale.add("digests")

    def stale_counts(self):
        self.stale.add("counts")

    def stale_end(self):
        self.stale.add("end")

    def repair(self):
        documents = [entry for entry in self.entries if entry.is_document()]
        manifest = [entry for entry in self.entries if entry.path == b"manifest.json"]
        end = [entry for entry in self.entries if entry.path == b"END.json"]
        if "digests" not in self.stale:
            for entry in documents:
                entry.attributes[OURS + b"blake2b"] = digest(entry.content)
        try:
            if "counts" not in self.stale and "end" not in self.stale:
                for entry in manifest + end:
                    set_json(entry, "licenses", len(documents))
            if "end" not in self.stale:
                for entry in end:
                    set_json(entry, "blake2b", self.digest().decode())
        except (TypeError, ValueError):
            pass  # it is no JSON, as was wished

    def digest(self):
        whole = hashlib.blake2b(digest_size=32)
        for entry in self.entries:
            if entry.path == b"END.json":
                break
            whole.update(b"%s\n%d\n%s\n" % (entry.path, len(entry.content), digest(entry.content)))
            for name in sorted(entry.attributes):
                whole.update(b"%s=%s\n" % (name, entry.attributes[name]))
        return whole.hexdigest().encode()

    def whole(self):
        data = self.before + b"".join(map(write, self.entries)) + b"\0" * (2 * BLOCK)
        return data + b"\0" * (-len(data) % (20 * BLOCK)) + self.after


def main(source, target, *words):
    with open(source, "rb") as file:
        rewriter = Rewriter(list(read(file.read())))
    words = list(words)
    while words:
        operation = getattr(rewriter, words.pop(0).replace("-", "_"))
        count = operation.__code__.co_argcount - 1
        operation(*map(os.fsencode, words[:count]))
        del words[:count]
    rewriter.repair()
    with open(target, "wb") as file:
        file.write(rewriter.whole())


if __name__ == "__main__":
    main(*sys.argv[1:])
